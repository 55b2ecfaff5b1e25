/** Makes the store out of what the user gave us to reach Postgres. */
import type { DataSource } from 'typeorm';
import type { PoolConfig } from 'pg';
import type { IdempotencyStore } from '../contract/store.js';
import { createPostgresStore } from '../store/postgres-store.js';
import { poolConfigOf, poolConfigOfPool } from '../store/typeorm-session.js';
import type { Faults } from './faults.js';
import type { ResolvedOptions } from './resolve-options.js';

/** `undefined` when there is a fault, which has been noted. Connections are opened when they are needed first. */
export function storeFor(options: ResolvedOptions, applications: DataSource | undefined, faults: Faults): IdempotencyStore | undefined {
  const connection = connectionFor(options, applications, faults);
  if (connection === undefined) return undefined;
  const { schema, poolSize, preparedStatements, storeTimeoutMs } = options;
  return createPostgresStore({ connection, schema, poolSize, preparedStatements, storeTimeoutMs });
}

function connectionFor(options: ResolvedOptions, applications: DataSource | undefined, faults: Faults): PoolConfig | undefined {
  if (options.pool !== undefined) return poolConfigOfPool(options.pool);
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
  return poolConfigOf(dataSource);
}
