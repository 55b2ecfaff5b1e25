/** A goal beside what was found. Ratios are within one run, best round against best round. */
import type { Line, Race, Round, Verdict } from './results.js';
import { median, rounded } from './statistics.js';

export function lineOf(race: Race, contestant: string): Line | undefined {
  return race.lines.find((line) => line.contestant === contestant);
}

export function best(line: Line | undefined): number {
  return Math.max(...(line?.rounds ?? []).map(({ perSecond }) => perSecond));
}

/** Of a contestant's best round to its baseline's. */
export function bestRatio(race: Race, contestant: string): number {
  const line = lineOf(race, contestant);
  return best(line) / best(line && lineOf(race, line.baseline ?? line.contestant));
}

/** Of the round in which it was least, microseconds a request. */
export function leastCpu(race: Race, contestant: string, of: (cpuUs: Round['cpuUs']) => number): number {
  return Math.min(...(lineOf(race, contestant)?.rounds ?? []).map(({ cpuUs }) => of(cpuUs)));
}

/** One for each round: to the baseline in the same round. */
export function ratios(race: Race, contestant: string): number[] {
  const line = lineOf(race, contestant);
  const baseline = line && lineOf(race, line.baseline ?? line.contestant);
  return (line?.rounds ?? []).map(({ perSecond }, turn) => perSecond / (baseline?.rounds[turn]?.perSecond ?? NaN));
}

export function medianRatio(race: Race, contestant: string): number {
  return median(ratios(race, contestant));
}

export function atLeast(what: string, goal: number, found: number, of: string): Verdict {
  return { what, goal: `≥ ${rounded(goal)} ${of}`, found: rounded(found), met: Number.isNaN(found) ? undefined : found >= goal };
}

export function atMost(what: string, goal: number, found: number, of: string): Verdict {
  return { what, goal: `≤ ${rounded(goal)} ${of}`, found: rounded(found), met: Number.isNaN(found) ? undefined : found <= goal };
}
