/** First requests while the reaper works through a heap of expired records, and while it does not. */
import { ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import type { Entrant } from '../entrants.js';
import { firsts } from '../load/traffic.js';
import type { Runner } from '../race.js';
import { addRecords, loadRecords } from '../records-loader.js';
import type { Table } from '../results.js';
import { rounded } from '../statistics.js';
import { atLeast, bestRatio } from '../verdicts.js';
import type { Bench, Workload } from '../workload.js';

const ROUTE = '/orders';
const TITLE = 'first request beside the reaper, Fastify';
const OFF = 'ours, no reaper';
const ON = 'ours, reaper at work';

/** So often that it is at work all the time; its bites and the pauses between them are as they come. */
const REAPER = { every: '1s' };
/** Its bites of 1000 with 50 ms between them are less than that. */
const REAPED_A_SECOND = 25_000;

export const reaper: Workload = {
  name: 'reaper',
  about: 'expired records are removed meanwhile',
  async run(bench) {
    if (!bench.wants(TITLE)) return { workload: 'reaper', races: [], tables: [], verdicts: [], faults: [] };
    const { course, entrants, server } = bench;
    const size = Math.ceil(REAPED_A_SECOND * (course.pace.seconds + 1));
    try {
      const off = await Heap.make(bench, { name: OFF, options: { reaper: false } }, size);
      const on = await Heap.make(bench, { name: ON, baseline: OFF, options: { reaper: REAPER } }, size);
      await server.checkpoint();
      const { race, faults } = await course.race(TITLE, 32, [off.runner(() => on.removed - off.removed), on.runner(() => 0)]);
      const table: Table = {
        title: 'what the reaper did',
        head: ['contestant', 'expired records before a round', 'least left after one'],
        rows: [[ON, size, on.least]],
      };
      const reaped = {
        what: `${TITLE}: it had something to do to the end`,
        goal: '> 0 records left',
        found: rounded(on.least),
        met: on.least > 0,
      };
      return {
        workload: 'reaper',
        races: [race],
        tables: [table],
        verdicts: [atLeast(TITLE, 0.9, bestRatio(race, ON), 'of that without it'), reaped],
        faults,
      };
    } finally {
      await entrants.leave();
    }
  },
};

interface Kind {
  readonly name: string;
  readonly baseline?: string;
  readonly options: object;
}

/** Expired records of one contestant, as many before every round; the others' tables must be as large, and as much in motion. */
class Heap {
  removed = 0;
  /** Left after a round. */
  least = Infinity;
  #made: number;

  private constructor(
    private readonly entrant: Entrant,
    private readonly size: number,
  ) {
    this.#made = size;
  }

  static async make({ builds, entrants }: Bench, { name, baseline, options }: Kind, size: number): Promise<Heap> {
    const contestant: Contestant = { ...ours(builds[0], 'fastify'), name, baseline };
    const entrant = await entrants.enter(contestant, ROUTE, { env: { BENCH_OPTIONS: JSON.stringify(options) } });
    await loadRecords(entrant, size, 0, 'expired');
    return new Heap(entrant, size);
  }

  /** @param surplus records to be removed here, since as many were removed elsewhere */
  runner(surplus: () => number): Runner {
    const { entrant } = this;
    return {
      entrant,
      traffic: firsts(ROUTE, entrant.ledger),
      beforeRound: async () => {
        if (surplus() > 0) await entrant.database.run(REMOVE, [surplus()]);
        const missing = this.size - (await this.#left());
        this.removed += missing;
        await addRecords(entrant, missing, this.#made, 'expired');
        this.#made += missing;
      },
      afterRound: async () => {
        this.least = Math.min(this.least, await this.#left());
      },
    };
  }

  async #left(): Promise<number> {
    const [row] = await this.entrant.database.run<{ count: number }>(
      'select count(*)::int as count from idempotency_records where expires_at <= statement_timestamp()',
    );
    return row?.count ?? 0;
  }
}

const REMOVE = `
  delete from idempotency_records
   where id in (select id from idempotency_records where expires_at <= statement_timestamp() order by reap_after limit $1)`;
