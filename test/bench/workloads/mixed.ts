/** Nine replays to one first request: a client that retries far too much, or a queue that delivers again and again. */
import { mixed as mixedTraffic } from '../load/traffic.js';
import { contestantsFor, raceWith } from '../workload.js';
import type { Workload } from '../workload.js';

const ROUTE = '/orders';
const TITLE = 'nine replays to one first request, Fastify';

export const mixed: Workload = {
  name: 'mixed',
  about: 'nine of ten requests are replays',
  async run(bench) {
    if (!bench.wants(TITLE)) return { workload: 'mixed', races: [], tables: [], verdicts: [], faults: [] };
    const { race, faults } = await raceWith(bench, TITLE, 32, contestantsFor(bench, 'fastify', ROUTE), ROUTE, async (entrant) => ({
      entrant,
      traffic: mixedTraffic(ROUTE, entrant.contestant, entrant.ledger),
    }));
    return { workload: 'mixed', races: [race], tables: [], verdicts: [], faults };
  },
};
