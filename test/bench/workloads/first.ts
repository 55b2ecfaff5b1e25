/** Requests with keys that nobody has used: what a guarded handler costs when it runs. */
import type { Platform, Route } from '../app-protocol.js';
import { BARE, intercepted } from '../contestants.js';
import { firsts } from '../load/traffic.js';
import type { Race, Verdict } from '../results.js';
import { rounded } from '../statistics.js';
import { atLeast, atMost, bestRatio, lineOf } from '../verdicts.js';
import { OURS, RIVAL, contestantsFor, raceWith } from '../workload.js';
import type { Outcome, Workload } from '../workload.js';

interface Scene {
  readonly title: string;
  readonly platform: Platform;
  readonly route: Route;
  readonly connections: number;
  readonly goal: number;
  /** Whether the goal is also to be ahead of the rival, each by the ratio to its own bare handler. */
  readonly beatsRival?: boolean;
}

const SCENES: readonly Scene[] = [
  { title: 'first request, Fastify, 32 connections', platform: 'fastify', route: '/orders', connections: 32, goal: 0.6 },
  {
    title: 'first request, Fastify, 128 connections',
    platform: 'fastify',
    route: '/orders',
    connections: 128,
    goal: 0.75,
    beatsRival: true,
  },
  { title: 'first request, Express, 32 connections', platform: 'express', route: '/orders', connections: 32, goal: 0.65 },
  { title: 'first request, atomic, Fastify, 32 connections', platform: 'fastify', route: '/orders-atomic', connections: 32, goal: 0.65 },
];

export const first: Workload = {
  name: 'first',
  about: 'every request has a key of its own',
  async run(bench) {
    const outcomes: Outcome[] = [];
    const verdicts: Verdict[] = [];
    for (const scene of SCENES.filter(({ title }) => bench.wants(title))) {
      const { title, platform, route, connections } = scene;
      const [nothing, ...others] = contestantsFor(bench, platform, route);
      const contestants = [nothing, intercepted(bench.builds[0], platform), ...others];
      const outcome = await raceWith(bench, title, connections, contestants, route, async (entrant) => ({
        entrant,
        traffic: firsts(route, entrant.ledger),
      }));
      outcomes.push(outcome);
      verdicts.push(...judge(scene, outcome.race));
    }
    return {
      workload: 'first',
      races: outcomes.map(({ race }) => race),
      tables: [],
      verdicts,
      faults: outcomes.flatMap(({ faults }) => faults),
    };
  },
};

function judge({ title, goal, beatsRival = false, route }: Scene, race: Race): Verdict[] {
  const own = bestRatio(race, OURS);
  const rivals = bestRatio(race, RIVAL);
  return [
    atLeast(title, goal, own, route === '/orders-atomic' ? 'of the bare handler with BEGIN and COMMIT' : 'of the bare handler'),
    ...(beatsRival && Number.isFinite(rivals) ? [atLeast(`${title}, ratio to the own bare handler`, rivals, own, `of ${RIVAL}`)] : []),
    ...(route === '/orders-atomic' ? [noMoreDiskWaits(title, race)] : []),
  ];
}

/** Counts of a short run: group commit lets them differ a little by chance. */
const DISK_WAITS_TOLERANCE = 0.1;

function noMoreDiskWaits(title: string, race: Race): Verdict {
  const waits = (contestant: string): number => {
    const { fsyncs, fsyncsInAll } = lineOf(race, contestant)?.counts ?? {};
    return fsyncs ?? fsyncsInAll ?? NaN;
  };
  const bound = waits(BARE) + DISK_WAITS_TOLERANCE;
  return { ...atMost(`${title}: disk waits a request`, bound, waits(OURS), ''), goal: `≤ ${rounded(waits(BARE))}, as the bare handler` };
}
