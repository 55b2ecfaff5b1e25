/** The files of a run: everything as JSON, the tables as they were printed, and the plot. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Pace } from '../race.js';
import type { Machine } from '../machine.js';
import type { Findings } from '../results.js';
import { plot } from './plot.js';

export interface Report {
  readonly label: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly machine: Machine;
  readonly postgres: Readonly<Record<string, string>>;
  /** Its version and what becomes of what it keeps, where one was asked for. */
  readonly redis?: string;
  /** What each peer is, and what it keeps, by its name. */
  readonly peers: Readonly<Record<string, string>>;
  readonly pace: Pace;
  readonly findings: readonly Findings[];
}

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url));

/** The folder of a run's profiles. */
export function profilesOf(label: string): string {
  return join(RESULTS, `${label}-profiles`);
}

/** Their paths, from here. */
export async function writeFiles(report: Report, markdown: string): Promise<string[]> {
  await mkdir(RESULTS, { recursive: true });
  const files = { json: `${JSON.stringify(report, undefined, 2)}\n`, md: markdown, svg: plot(report.findings) };
  return Promise.all(
    Object.entries(files).map(async ([kind, content]) => {
      const path = join(RESULTS, `${report.label}.${kind}`);
      await writeFile(path, content);
      return relative(process.cwd(), path);
    }),
  );
}
