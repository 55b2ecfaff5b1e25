/**
 * The races as a plot: a group of bars for each, one bar for each contestant, as long as its ratio to
 * its own bare handler; a thin line goes from its worst round to its best. SVG without scripts or
 * fonts of its own, readable on light and on dark pages.
 */
import { rounded } from '../statistics.js';
import type { Findings, Race } from '../results.js';
import { isOurs } from '../workload.js';
import { bestRatio, medianRatio, ratios } from '../verdicts.js';

const WIDTH = 860;
const NAMES_WIDTH = 250;
const VALUES_WIDTH = 70;
const BAR = 16;
const GAP = 6;
const TITLE = 34;
const MARGIN = 16;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .baseline { fill: #8c959f; } .ours { fill: #1a7f37; } .other { fill: #0969da; }
  .mark { stroke: #8c959f; stroke-dasharray: 3 3; } .spread { stroke: #1f2328; stroke-opacity: 0.6; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .baseline { fill: #7d8590; } .ours { fill: #3fb950; } .other { fill: #4493f8; }
    .mark { stroke: #7d8590; } .spread { stroke: #e6edf3; }
  }`;

export function plot(findings: readonly Findings[]): string {
  const races = findings.flatMap((found) => found.races);
  const groups: string[] = [];
  let y = MARGIN;
  for (const race of races) {
    groups.push(group(race, y));
    y += TITLE + race.lines.length * (BAR + GAP) + GAP;
  }
  const height = y + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    '<title>Requests per second, as a ratio to the same handler without a guard</title>',
    `<style>${STYLE}\n</style>`,
    ...groups,
    '</svg>',
    '',
  ].join('\n');
}

function group(race: Race, top: number): string {
  const longest = Math.max(1, ...race.lines.map(({ contestant }) => bestRatio(race, contestant)).filter(Number.isFinite));
  const x = (ratio: number): string =>
    (NAMES_WIDTH + (Math.max(0, ratio) / longest) * (WIDTH - NAMES_WIDTH - VALUES_WIDTH - 2 * MARGIN) + MARGIN).toFixed(1);
  const bottom = top + TITLE + race.lines.length * (BAR + GAP);
  const bars = race.lines.map((line, nth) => {
    const y = top + TITLE + nth * (BAR + GAP);
    const middle = y + BAR / 2;
    const ratio = medianRatio(race, line.contestant);
    if (!Number.isFinite(ratio)) return '';
    const seen = ratios(race, line.contestant);
    return [
      `<text x="${NAMES_WIDTH + MARGIN - 8}" y="${middle + 4}" text-anchor="end">${escaped(line.contestant)}</text>`,
      `<rect class="${kindOf(line.contestant, line.baseline)}" x="${x(0)}" y="${y}" width="${(Number(x(ratio)) - Number(x(0))).toFixed(1)}" height="${BAR}" rx="2"/>`,
      `<line class="spread" x1="${x(Math.min(...seen))}" x2="${x(Math.min(longest, Math.max(...seen)))}" y1="${middle}" y2="${middle}"/>`,
      `<text x="${WIDTH - MARGIN}" y="${middle + 4}" text-anchor="end">${rounded(ratio)}</text>`,
    ].join('');
  });
  const mark = `<line class="mark" x1="${x(1)}" x2="${x(1)}" y1="${top + TITLE - 4}" y2="${bottom}"/>`;
  return `<text class="title" x="${MARGIN}" y="${top + 18}">${escaped(race.title)}</text>\n${mark}\n${bars.join('\n')}`;
}

function kindOf(contestant: string, baseline: string | undefined): string {
  if (baseline === undefined) return 'baseline';
  return isOurs(contestant) ? 'ours' : 'other';
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
