/**
 * A store and a clock in the place of the real ones, for tests of applications: who provides
 * `STAND_IN` needs no database. What only a database can do is refused when the application starts.
 */
import type { DataSource } from 'typeorm';
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { Faults } from './faults.js';
import type { ApplicationDatabase } from './module-store.js';
import type { ResolvedOptions } from './resolve-options.js';
import type { IdempotentRoutes } from './routes.js';

export interface StandIn {
  readonly store: IdempotencyStore;
  readonly clock: Clock;
}

/** The application may have a database all the same, of whatever kind. */
export function databaseIfAny({ pool, dataSource }: ResolvedOptions, applications: DataSource | undefined): ApplicationDatabase {
  if (pool !== undefined) return { pool };
  const given = dataSource ?? applications;
  return given === undefined ? {} : { dataSource: given };
}

/** Handler and record can't commit together where there is no transaction. */
export function refuseAtomic(routes: IdempotentRoutes, faults: Faults): void {
  for (const { settings } of routes.all) {
    if (settings.atomic === undefined) continue;
    faults.add({
      option: 'atomic',
      where: settings.handler,
      fault: 'needs a transaction of a real database, and the records are in memory',
      remedy:
        'Test an application with atomic handlers on a Postgres, with IdempotencyModule and a DataSource; or leave the modules of these handlers out of this test.',
    });
  }
}
