/** Makes the store out of what the user gave us to reach Postgres. */
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { systemClock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';
import { SealingStore } from '../engine/sealing-store.js';
import { Sealing, WITHOUT_KEYS } from '../engine/sealing.js';
import { createPostgresStore } from '../store/postgres-store.js';
import { poolConfigOf, poolConfigOfPool } from '../store/typeorm-session.js';
import type { Faults } from './faults.js';
import type { ResolvedOptions } from './resolve-options.js';

/** The application's own way to its database: what atomic transactions are made on. */
export type Database =
  { readonly dataSource: DataSource; readonly pool?: undefined } | { readonly pool: Pool; readonly dataSource?: undefined };

/** Neither, where a store stands in that needs none. */
export type ApplicationDatabase = Database | { readonly dataSource?: undefined; readonly pool?: undefined };

/** `undefined` when there is a fault, which has been noted. */
export function applicationDatabase(options: ResolvedOptions, applications: DataSource | undefined, faults: Faults): Database | undefined {
  if (options.pool !== undefined) return { pool: options.pool };
  const dataSource = options.dataSource ?? applications;
  if (dataSource === undefined) {
    faults.add({
      option: 'dataSource',
      fault: 'is missing, and the application has no TypeORM DataSource that could be used instead',
      remedy:
        'Import TypeOrmModule.forRoot(…), or give a dataSource or a pg pool; a named DataSource is passed with forRootAsync({ inject: [getDataSourceToken(name)], … }).',
    });
    return undefined;
  }
  if (dataSource.options.type !== 'postgres') {
    faults.add({
      option: 'dataSource',
      fault: `is of type '${dataSource.options.type}'`,
      remedy: "Give a DataSource of type 'postgres' as dataSource, or a pg Pool as pool.",
    });
    return undefined;
  }
  return { dataSource };
}

/** A pool of the module's own with the application's settings. Connections are opened when they are needed first. */
export function storeFor(application: Database, options: ResolvedOptions): IdempotencyStore {
  const { schema, poolSize, preparedStatements, sharedStatements, storeTimeoutMs, encryption = WITHOUT_KEYS } = options;
  const connection = application.pool === undefined ? poolConfigOf(application.dataSource) : poolConfigOfPool(application.pool);
  const store = createPostgresStore({ connection, application, schema, poolSize, preparedStatements, sharedStatements, storeTimeoutMs });
  return new SealingStore(store, new Sealing(encryption), systemClock);
}

/** How many connections the application's pool has at most; both libraries default to ten. */
export function applicationPoolSize({ pool, dataSource }: ApplicationDatabase): number {
  const settings = dataSource === undefined ? pool?.options : poolConfigOf(dataSource);
  return settings?.max ?? 10;
}
