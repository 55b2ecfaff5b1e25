/** What a workload is, and what it is given. */
import type { Platform, Route } from './app-protocol.js';
import { bare, ours } from './contestants.js';
import type { Build, Contestant } from './contestants.js';
import type { Entrant, Entrants, Wishes } from './entrants.js';
import type { Racecourse, Runner } from './race.js';
import type { Fault, Findings, Race } from './results.js';
import type { Server } from './server.js';

/** The name of this repository's library among the contestants. */
export const OURS = 'ours';

/** Whether it is this library, in whatever build and whatever setting. */
export function isOurs(contestant: string): boolean {
  return contestant.startsWith(OURS);
}

/** The peer that our goals are set against: it keeps its records in Redis, so not on the disk. */
export const RIVAL = 'node-idempotency, Redis';

export interface Workload {
  readonly name: string;
  /** What is done, in half a sentence. */
  readonly about: string;
  run(bench: Bench): Promise<Findings>;
}

export interface Sizes {
  /** Records of the large table in `growth`. */
  readonly records: number;
  readonly quick: boolean;
}

export interface Bench {
  readonly server: Server;
  readonly entrants: Entrants;
  readonly course: Racecourse;
  /** This repository's library first, then those of other checkouts. */
  readonly builds: readonly [Build, ...Build[]];
  readonly peers: readonly Contestant[];
  readonly sizes: Sizes;
  /** Whether a race of that title was asked for. */
  wants(title: string): boolean;
  say(line: string): void;
}

/** The bare handler, ours in every build, and the peers that have such a route, with their own bare handlers. */
export function contestantsFor(
  { builds, peers }: Bench,
  platform: Platform,
  route: Route,
  withPeers = true,
): [Contestant, ...Contestant[]] {
  const guests = withPeers ? peers.filter((peer) => peer.platform === platform && peer.routes.includes(route)) : [];
  return [bare(builds[0], platform), ...builds.map((build) => ours(build, platform)), ...guests];
}

export interface Outcome {
  readonly race: Race;
  readonly faults: readonly Fault[];
}

/** Enters all of them, makes each one's traffic, lets them race and sends them home. */
export async function raceWith(
  { entrants, course, server }: Bench,
  title: string,
  connections: number,
  contestants: readonly Contestant[],
  route: Route,
  prepare: (entrant: Entrant) => Promise<Runner>,
  wishes?: Wishes,
): Promise<Outcome> {
  try {
    const runners: Runner[] = [];
    for (const contestant of contestants) runners.push(await prepare(await entrants.enter(contestant, route, wishes)));
    await server.checkpoint(); // the next one is minutes away, and so in nobody's round
    return await course.race(title, connections, runners);
  } finally {
    await entrants.leave();
  }
}
