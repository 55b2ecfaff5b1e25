/** The same requests on a small table and on a large one: what a request costs must not grow with what is stored. */
import { ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import type { Entrant } from '../entrants.js';
import { firsts, loadedReplays } from '../load/traffic.js';
import type { LoadedAnswers } from '../load/traffic.js';
import type { Runner } from '../race.js';
import { loadRecords } from '../records-loader.js';
import type { Fault, Race, Verdict } from '../results.js';
import { atMost, leastCpu } from '../verdicts.js';
import type { Bench, Workload } from '../workload.js';

const ROUTE = '/orders';
const SMALL = 50_000;

interface Filled {
  readonly entrant: Entrant;
  readonly count: number;
  readonly answers: LoadedAnswers;
}

export const growth: Workload = {
  name: 'growth',
  about: 'a small table against a large one',
  async run(bench) {
    const races: Race[] = [];
    const verdicts: Verdict[] = [];
    const faults: Fault[] = [];
    if (!bench.wants('growth')) return { workload: 'growth', races, tables: [], verdicts, faults };
    const { records } = bench.sizes;
    try {
      const small = await fill(bench, SMALL, undefined);
      const filled = [small, await fill(bench, records, small.entrant.contestant.name)];
      for (const { title, runner } of SCENES) {
        await bench.server.checkpoint();
        const outcome = await bench.course.race(`growth, ${title}`, 32, filled.map(runner));
        races.push(outcome.race);
        faults.push(...outcome.faults);
        verdicts.push(judge(outcome.race, records));
      }
    } finally {
      await bench.entrants.leave();
    }
    return { workload: 'growth', races, tables: [], verdicts, faults };
  },
};

const SCENES: readonly { readonly title: string; readonly runner: (filled: Filled) => Runner }[] = [
  { title: 'first request', runner: ({ entrant }) => ({ entrant, traffic: firsts(ROUTE, entrant.ledger) }) },
  {
    title: 'replay from the database alone',
    runner: ({ entrant, answers, count }) => ({
      entrant,
      traffic: loadedReplays(ROUTE, answers, count, entrant.contestant, entrant.ledger),
    }),
  },
];

async function fill(bench: Bench, count: number, baseline: string | undefined): Promise<Filled> {
  const name = `ours, ${count.toLocaleString('en')} records`;
  const contestant: Contestant = { ...ours(bench.builds[0], 'fastify'), name, baseline };
  const entrant = await bench.entrants.enter(contestant, ROUTE);
  bench.say(`growth: loading ${count.toLocaleString('en')} records`);
  return { entrant, count, answers: await loadRecords(entrant, count) };
}

/** What a request costs is the processor time of both sides; waiting is none. */
function judge({ title, lines: [small, large], ...race }: Race, records: number): Verdict {
  const cost = (contestant = ''): number =>
    leastCpu(
      { title, ...race, lines: [small, large].filter((line) => line !== undefined) },
      contestant,
      ({ app, postgres = NaN }) => app + postgres,
    );
  const found = cost(large?.contestant) / cost(small?.contestant);
  return atMost(`${title}, CPU with ${records.toLocaleString('en')} records`, 1.2, found, `× that with ${SMALL.toLocaleString('en')}`);
}
