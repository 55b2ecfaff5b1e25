/**
 * Says at boot where pools are too small, or too large for what Postgres grants. Only what must go
 * wrong some day is worth a warning: a pool that is merely slow is not.
 */
import type { ConnectionLimit } from '../contract/store.js';
import type { ResolvedRoute } from './resolve-options.js';

export interface Pools {
  /** Most connections of the application's pool. */
  readonly applicationSize: number;
  /** Those of the module's own. */
  readonly ownSize: number;
}

type Route = Pick<ResolvedRoute, 'handler' | 'atomic' | 'waitMs'>;

export function poolWarnings(pools: Pools, routes: readonly Route[], limit: ConnectionLimit | undefined): string[] {
  return [ofOneConnection(pools, routes), ofTheLimit(pools, routes, limit)].filter((warning) => warning !== undefined);
}

/** An atomic handler holds one of the application's connections; whatever it asks elsewhere needs another one. */
function ofOneConnection({ applicationSize }: Pools, routes: readonly Route[]): string | undefined {
  const atomic = routes.filter((route) => route.atomic !== undefined).map(({ handler }) => handler);
  if (atomic.length === 0 || applicationSize > 1) return undefined;
  return (
    `The application's pool has one connection, and an atomic handler holds it: whatever it asks outside of execution.manager waits for itself. ` +
    `Give the pool more connections, for ${atomic.join(', ')}.`
  );
}

const WHOSE = {
  server: { limit: 'the server has for its role (max_connections without those that are reserved)', remedy: 'raise max_connections' },
  database: { limit: 'the database allows (its CONNECTION LIMIT)', remedy: 'raise that by ALTER DATABASE' },
  role: { limit: 'its role is allowed (its CONNECTION LIMIT)', remedy: 'raise that by ALTER ROLE' },
} as const satisfies Record<ConnectionLimit['of'], object>;

/** What is refused beyond the limit is whatever comes next: a claim, a renewal, a transaction, a query of the application's. */
function ofTheLimit({ applicationSize, ownSize }: Pools, routes: readonly Route[], limit: ConnectionLimit | undefined): string | undefined {
  const listening = routes.some(({ waitMs }) => waitMs > 0) ? 1 : 0;
  const most = applicationSize + ownSize + listening;
  if (limit === undefined || most <= limit.connections) return undefined;
  const parts = [
    `${applicationSize} of the application's pool`,
    `${ownSize} of the module's own (poolSize)`,
    ...(listening > 0 ? ['1 on which it hears of answers that others wait for'] : []),
  ];
  const whose = WHOSE[limit.of];
  return (
    `This process may open ${most} connections to Postgres (${parts.join(', ')}), and ${limit.connections} is all that ${whose.limit}, ` +
    `for all processes together. Beyond that Postgres refuses connections, and requests fail. Make the pools smaller, or ${whose.remedy}.`
  );
}
