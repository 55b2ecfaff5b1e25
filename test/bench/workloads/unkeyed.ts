/** Requests that the library has nothing to do with: to a handler that is not decorated, and to one that is, without a key. */
import { INTERCEPTED, bare, intercepted, ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import { plain } from '../load/traffic.js';
import type { Verdict } from '../results.js';
import { atLeast, bestRatio } from '../verdicts.js';
import { OURS, raceWith } from '../workload.js';
import type { Bench, Outcome, Workload } from '../workload.js';

const SCENES = [
  { title: 'handler that is not decorated, Fastify', route: '/undecorated' },
  { title: 'request without a key, Fastify', route: '/unkeyed' },
] as const;

/** Best rounds of one and the same application differ by that much. */
const AS_GOOD_AS = 0.97;

export const unkeyed: Workload = {
  name: 'unkeyed',
  about: 'requests without a key, and a handler that is not decorated',
  async run(bench) {
    const outcomes: Outcome[] = [];
    const verdicts: Verdict[] = [];
    for (const { title, route } of SCENES.filter((scene) => bench.wants(scene.title))) {
      const outcome = await raceWith(bench, title, 32, contestants(bench), route, async (entrant) => ({ entrant, traffic: plain(route) }));
      outcomes.push(outcome);
      verdicts.push(atLeast(title, AS_GOOD_AS, bestRatio(outcome.race, OURS), 'of one empty interceptor'));
    }
    return {
      workload: 'unkeyed',
      races: outcomes.map(({ race }) => race),
      tables: [],
      verdicts,
      faults: outcomes.flatMap(({ faults }) => faults),
    };
  },
};

function contestants({ builds }: Bench): Contestant[] {
  return [
    bare(builds[0], 'fastify'),
    intercepted(builds[0], 'fastify'),
    ...builds.map((build) => ({ ...ours(build, 'fastify'), baseline: INTERCEPTED })),
  ];
}
