import { describe, expect, it } from '@jest/globals';
import { readFlags } from '../bench/flags.js';
import { difference } from '../bench/load/ledger.js';
import { strideThrough } from '../bench/load/traffic.js';
import type { Report } from '../bench/report/files.js';
import { plot } from '../bench/report/plot.js';
import { markdown } from '../bench/report/table.js';
import type { Findings, Round } from '../bench/results.js';
import { median, percentile, rounded } from '../bench/statistics.js';
import { atLeast, atMost, bestRatio, medianRatio } from '../bench/verdicts.js';

const round = (perSecond: number): Round => ({
  requests: perSecond,
  perSecond,
  p50Ms: 1,
  p99Ms: 2,
  cpuUs: { app: 100, client: 20 },
  walBytes: 300,
  statuses: { 201: perSecond },
  replays: 0,
});

const RACE = {
  title: 'first request <Fastify> & "32"',
  connections: 32,
  lines: [
    { contestant: 'bare', rounds: [1000, 2000, 4000].map(round) },
    { contestant: 'ours', baseline: 'bare', rounds: [600, 1000, 2800].map(round) },
    { contestant: 'a peer', baseline: 'bare', rounds: [500, 500, 500].map(round) },
  ],
};
const FINDINGS: Findings = {
  workload: 'first',
  races: [RACE],
  tables: [{ title: 'others', head: ['', 'statements'], rows: [['ours', 2]] }],
  verdicts: [atLeast('first', 0.6, 0.7, 'of the bare handler'), atMost('storm', 2, 3, 'statements')],
  faults: [{ contestant: 'a peer', fault: '100 orders have only 1 different keys' }],
};
const REPORT: Report = {
  label: 'test',
  startedAt: '2026-01-01T00:00:00.000Z',
  machine: { processor: 'a processor', cores: 2, memoryGiB: 8, kernel: 'Linux 6', node: 'v20', packages: {}, commit: undefined },
  postgres: { server_version: '18.4' },
  peers: {},
  pace: { rounds: 3, seconds: 1, warmUpSeconds: 1, warmUpRequests: 1 },
  findings: [FINDINGS],
};

describe('the numbers of a run', () => {
  it('has the middle value, and between two middle ones their mean', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNaN();
  });

  it('has as percentile the value that such a share does not exceed', () => {
    const hundred = Array.from({ length: 100 }, (_, n) => n + 1);
    expect(percentile(hundred, 0.5)).toBe(50);
    expect(percentile(hundred, 0.99)).toBe(99);
    expect(percentile([7], 0.99)).toBe(7);
  });

  it('compares best with best, and within a round', () => {
    expect(bestRatio(RACE, 'ours')).toBe(0.7);
    expect(medianRatio(RACE, 'ours')).toBe(0.6);
    expect(bestRatio(RACE, 'nobody')).toBeNaN();
  });

  it('does not call a goal met where nothing was found', () => {
    expect(atLeast('x', 1, NaN, '').met).toBeUndefined();
    expect(atMost('x', 1, NaN, '').met).toBeUndefined();
  });

  it('is told with the digits that count', () => {
    expect([12345.6, 123.4, 12.34, 0.567, NaN].map(rounded)).toEqual(['12,346', '123', '12.3', '0.57', '–']);
  });

  it('meets every loaded key once before it meets one again', () => {
    for (const count of [1, 2, 10, 97, 1000]) {
      const stride = strideThrough(count);
      const met = new Set(Array.from({ length: count }, (_, turn) => (turn * stride) % count));
      expect(met.size).toBe(count);
    }
  });

  it('sees every way in which a replay can differ', () => {
    const first = { status: 201, contentType: 'application/json', body: Buffer.from('{}') };
    expect(difference(first, { ...first, replayed: true })).toBeUndefined();
    expect(difference(first, { ...first, status: 200, replayed: true })).toMatch(/status/);
    expect(difference(first, { ...first, contentType: 'text/plain', replayed: true })).toMatch(/text\/plain/);
    expect(difference(first, { ...first, body: Buffer.from('[]'), replayed: true })).toMatch(/bytes/);
  });
});

describe('the tables', () => {
  const lines = markdown(REPORT).split('\n');

  it('has rows of as many cells as the head', () => {
    const rows = lines.filter((line) => line.startsWith('|'));
    for (const [start, head] of rows.entries()) {
      if (!rows[start + 1]?.startsWith('|--')) continue;
      const cells = head.split('|').length;
      for (let n = start + 1; rows[n] !== undefined && !rows[n + 1]?.startsWith('|--'); n += 1)
        expect(rows[n]?.split('|')).toHaveLength(cells);
    }
    expect(rows.length).toBeGreaterThan(8);
  });

  it('says beside each goal whether it is met', () => {
    expect(lines.find((line) => line.startsWith('| first '))).toMatch(/0\.60.*0\.70.*yes/);
    expect(lines.find((line) => line.startsWith('| storm '))).toMatch(/2\.00.*3\.00.*\*\*no\*\*/);
  });

  it('marks the figures of those whose answers were wrong', () => {
    expect(lines.some((line) => line.startsWith('| a peer (wrong answers'))).toBe(true);
  });
});

describe('the plot', () => {
  const svg = plot([FINDINGS]);

  it('is well-formed XML with escaped texts', () => {
    const open: string[] = [];
    for (const [, closing, name, rest] of svg.matchAll(/<(\/?)([a-z]+)([^>]*)>/g)) {
      if (closing === '/') expect(open.pop()).toBe(name);
      else if (!rest?.endsWith('/')) open.push(name ?? '');
    }
    expect(open).toEqual([]);
    expect(svg).toContain('first request &lt;Fastify&gt; &amp; &quot;32&quot;');
    expect(svg).not.toMatch(/&(?!amp;|lt;|gt;|quot;)/);
  });

  it('has a bar for everybody, as long as the ratio', () => {
    const widths = [...svg.matchAll(/<rect class="(\w+)"[^>]* width="([\d.]+)"/g)].map(([, kind, width]) => [kind, Number(width)] as const);
    expect(widths.map(([kind]) => kind)).toEqual(['baseline', 'ours', 'other']);
    expect((widths[1]?.[1] ?? 0) / (widths[0]?.[1] ?? 1)).toBeCloseTo(0.6, 1);
  });

  it('is no less well-formed without a race', () => {
    expect(plot([])).toMatch(/^<svg[^]*<\/svg>\n$/);
  });
});

describe('the command line', () => {
  it('takes several checkouts and names of workloads', () => {
    const flags = readFlags(['--only', 'first,replay', '--library', '../one', '--library', '../two', '--rounds', '5']);
    expect(flags).toMatchObject({ only: ['first', 'replay'], libraries: ['../one', '../two'], pace: { rounds: 5 } });
  });

  it('refuses numbers that are none, and labels that are no names of files', () => {
    expect(() => readFlags(['--rounds', 'many'])).toThrow('--rounds');
    expect(() => readFlags(['--label', '../x'])).toThrow('--label');
  });
});
