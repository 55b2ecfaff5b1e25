/** The findings as Markdown: a table for every race, those that are no races, and the goals. */
import { median, rounded } from '../statistics.js';
import type { Report } from './files.js';
import type { Fault, Line, Race, Round, Verdict } from '../results.js';
import { best, bestRatio, medianRatio } from '../verdicts.js';

export function markdown({ machine, postgres, redis, peers, pace, findings }: Report): string {
  const where =
    `${machine.processor}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.kernel}, Node ${machine.node}, Postgres ${postgres['server_version']} ` +
    `(fsync ${postgres['fsync']}, synchronous_commit ${postgres['synchronous_commit']}, shared_buffers ${postgres['shared_buffers']}). ${redis ?? ''}`;
  const how = `${pace.rounds} interleaved rounds of ${pace.seconds} s. Ratios are to the bare handler on the same framework; "best" is best round to best round. CPU is µs a request.`;
  const parts = findings.flatMap(({ races, tables, faults }) => [
    ...races.map((race) =>
      section(
        race.title,
        RACE_HEAD,
        race.lines.map((line) => raceRow(race, line, faults)),
      ),
    ),
    ...tables.map(({ title, head, rows }) =>
      section(
        title,
        head,
        rows.map((row) => row.map(cell)),
      ),
    ),
  ]);
  const verdicts = findings.flatMap((found) => found.verdicts);
  const faults = findings.flatMap((found) => found.faults);
  if (verdicts.length > 0) parts.push(section('Goals', ['what', 'goal', 'found', 'met'], verdicts.map(verdictRow)));
  parts.push(
    faults.length === 0
      ? 'Checked in the same run: every key has one order, and every replay is equal byte for byte.\n'
      : section(
          'What was wrong',
          ['contestant', 'fault'],
          faults.map(({ contestant, fault }) => [contestant, fault]),
        ),
  );
  const others = Object.entries(peers).map(([name, about]) => `- ${name}: ${about}`);
  return [where.trim(), '', how, '', ...(others.length === 0 ? [] : [...others, '']), ...parts].join('\n');
}

const RACE_HEAD = [
  'contestant',
  'req/s, median',
  'best',
  'ratio, median',
  'best',
  'p50 ms',
  'p99 ms',
  'CPU µs app',
  'Postgres',
  'Redis',
  'client',
  'WAL B',
  'fsyncs',
  'transactions',
] as const;

function raceRow(race: Race, line: Line, faults: readonly Fault[]): string[] {
  const wrong = faults.some(({ contestant }) => contestant === line.contestant);
  const middle = (value: (round: Round) => number | undefined): string => rounded(median(line.rounds.map((round) => value(round) ?? NaN)));
  const ratio = (value: number): string => (line.baseline === undefined ? '1.00' : rounded(value));
  return [
    wrong ? `${line.contestant} (wrong answers, see below)` : line.contestant,
    middle(({ perSecond }) => perSecond),
    rounded(best(line)),
    ratio(medianRatio(race, line.contestant)),
    ratio(bestRatio(race, line.contestant)),
    middle(({ p50Ms }) => p50Ms),
    middle(({ p99Ms }) => p99Ms),
    middle(({ cpuUs }) => cpuUs.app),
    middle(({ cpuUs }) => cpuUs.postgres),
    middle(({ cpuUs }) => cpuUs.redis),
    middle(({ cpuUs }) => cpuUs.client),
    middle(({ walBytes }) => walBytes),
    rounded(line.counts?.fsyncs ?? line.counts?.fsyncsInAll ?? NaN),
    rounded(line.counts?.transactions ?? NaN),
  ];
}

const MET: Readonly<Record<string, string>> = { true: 'yes', false: '**no**', undefined: 'not measured' };

function verdictRow({ what, goal, found, met }: Verdict): string[] {
  return [what, goal, found, MET[String(met)] ?? ''];
}

function cell(value: string | number): string {
  return typeof value === 'number' ? rounded(value) : value;
}

/** Columns line up in a terminal too. */
function section(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, column) => Math.max(3, ...[name, ...rows.map((row) => row[column] ?? '')].map((text) => text.length)));
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join(' | ')} |`;
  const rule = `|${widths.map((width, column) => (column === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [`### ${title}`, '', line(head), rule, ...rows.map(line), ''].join('\n');
}
