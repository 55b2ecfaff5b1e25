/** Requests with keys that have an answer: what a retry costs, when its record is at hand and when it is somewhere in a large table. */
import type { Platform } from '../app-protocol.js';
import type { Contestant } from '../contestants.js';
import type { Entrant } from '../entrants.js';
import { Connections } from '../load/connections.js';
import type { KeptAnswer } from '../load/ledger.js';
import { firsts, loadedReplays, recorded, replays } from '../load/traffic.js';
import type { Runner } from '../race.js';
import { loadRecords } from '../records-loader.js';
import type { Verdict } from '../results.js';
import { atLeast, atMost, best, bestRatio, leastCpu, lineOf } from '../verdicts.js';
import { OURS, RIVAL, contestantsFor, raceWith } from '../workload.js';
import type { Bench, Outcome, Workload } from '../workload.js';

const ROUTE = '/orders';
const CONNECTIONS = 32;
/** Few enough for each to be asked for a hundred times a second, as a crowd of retries does. */
const HOT_KEYS = 40;

export const replay: Workload = {
  name: 'replay',
  about: 'every request has a key that has an answer',
  async run(bench) {
    const outcomes: Outcome[] = [];
    const verdicts: Verdict[] = [];
    for (const platform of ['fastify', 'express'] as const) {
      const title = `replay, ${platform === 'fastify' ? 'Fastify' : 'Express'}`;
      if (!bench.wants(title)) continue;
      const hot = await raceWith(bench, title, CONNECTIONS, contestantsFor(bench, platform, ROUTE), ROUTE, hotRunner);
      outcomes.push(hot);
      if (platform === 'fastify') verdicts.push(...judgeHot(hot));
    }
    const title = 'replay from the database alone, Fastify';
    if (bench.wants(title)) {
      const cold = await raceWith(bench, title, CONNECTIONS, durable(bench, 'fastify'), ROUTE, (entrant) => coldRunner(bench, entrant));
      outcomes.push(cold);
      verdicts.push(
        atLeast(title, 2.5, bestRatio(cold.race, OURS), 'of the bare handler'),
        atMost(
          `${title}: CPU of Postgres`,
          30,
          leastCpu(cold.race, OURS, ({ postgres = NaN }) => postgres),
          'µs',
        ),
      );
    }
    return {
      workload: 'replay',
      races: outcomes.map(({ race }) => race),
      tables: [],
      verdicts,
      faults: outcomes.flatMap(({ faults }) => faults),
    };
  },
};

function judgeHot({ race }: Outcome): Verdict[] {
  const rival = lineOf(race, RIVAL);
  return [
    atLeast(race.title, 4, bestRatio(race, OURS), 'of the bare handler'),
    ...(rival === undefined ? [] : [atLeast(`${race.title}, requests per second`, best(rival), best(lineOf(race, OURS)), `of ${RIVAL}`)]),
  ];
}

async function hotRunner(entrant: Entrant): Promise<Runner> {
  const { app, ledger, contestant } = entrant;
  const clients = await Connections.open(app.port, 8);
  const answers = new Map<string, KeptAnswer>();
  await clients.fire(recorded(ROUTE, ledger, answers, HOT_KEYS));
  clients.close();
  return { entrant, traffic: replays(ROUTE, answers, contestant, ledger) };
}

/** Enough that a key comes again only after more time than any memory of answers lasts. */
async function coldRunner({ sizes }: Bench, entrant: Entrant): Promise<Runner> {
  const { contestant, ledger } = entrant;
  if (!contestant.guards) return { entrant, traffic: firsts(ROUTE, ledger) };
  const count = sizes.quick ? 100_000 : 400_000;
  return { entrant, traffic: loadedReplays(ROUTE, await loadRecords(entrant, count), count, contestant, ledger) };
}

/** Those whose records can be loaded. */
function durable(bench: Bench, platform: Platform): Contestant[] {
  return contestantsFor(bench, platform, ROUTE, false);
}
