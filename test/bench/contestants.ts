/** Who is measured against whom. It knows where each application is and what it can be asked; how it is measured is known elsewhere. */
import { join } from 'node:path';
import type { Platform, Route } from './app-protocol.js';

export interface Contestant {
  /** Its name in tables and plots; unique in a run. */
  readonly name: string;
  /** The contestant that its figures are compared with: the same framework and handler without it. None: it is such a one. */
  readonly baseline?: string | undefined;
  readonly platform: Platform;
  /** Absolute path of the JavaScript that `node` is to run. */
  readonly entry: string;
  readonly routes: readonly Route[];
  /** Whether a key runs once, which is then checked. */
  readonly guards: boolean;
  /** Whether it says of a replay that it is one (`Idempotent-Replayed: true`), which is then checked. */
  readonly tellsReplays?: boolean;
  /** Whether it needs a Redis. It gets one of its own, without persistence, if there is a `redis-server`. */
  readonly redis?: boolean;
  /** On top of what every application is told. */
  readonly env?: Readonly<Record<string, string>>;
  /** Makes what its application needs in the database, before that is started. */
  readonly prepare?: (databaseUrl: string) => Promise<void>;
}

/** Where the compiled applications and one library are, and what that library is called in tables. */
export interface Build {
  readonly name: string;
  readonly folder: string;
  readonly migrate: (databaseUrl: string) => Promise<void>;
}

export const BARE = 'bare';

const ROUTES: readonly Route[] = ['/orders', '/orders-atomic', '/slow', '/large', '/undecorated', '/unkeyed', '/quiet'];

export function bare({ folder }: Build, platform: Platform): Contestant {
  return { name: BARE, platform, entry: join(folder, 'test/bench/apps/bare.js'), routes: ROUTES, guards: false };
}

export const INTERCEPTED = 'bare, one empty interceptor';

/** With the least that an application pays to have any interceptor at all, ours among them. */
export function intercepted(build: Build, platform: Platform): Contestant {
  return { ...bare(build, platform), name: INTERCEPTED, baseline: BARE, env: { BENCH_EMPTY_INTERCEPTOR: 'true' } };
}

export function ours({ name, folder, migrate }: Build, platform: Platform): Contestant {
  return {
    name,
    baseline: BARE,
    platform,
    entry: join(folder, 'test/bench/apps/ours.js'),
    routes: ROUTES,
    guards: true,
    tellsReplays: true,
    prepare: migrate,
  };
}
