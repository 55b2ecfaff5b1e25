/**
 * Reads the application's connection settings, so that the module's own pool goes to the same
 * place in the same way. Settings only: it never touches the application's connections.
 */
import type { Pool, PoolConfig } from 'pg';
import type { DataSource } from 'typeorm';

/**
 * The settings TypeORM itself would make a pool from: those of the master where there are
 * replicas, with `extra` over all. A replica may lag, and a replay must see what was just written.
 */
export function poolConfigOf(dataSource: Pick<DataSource, 'options'>): PoolConfig {
  const { options } = dataSource;
  if (options.type !== 'postgres') {
    throw new TypeError(
      `Idempotency records live in Postgres, and this DataSource is of type '${options.type}'. ` +
        `Give the module a DataSource of type 'postgres' as "dataSource", or a pg Pool as "pool".`,
    );
  }
  const server = options.replication?.master ?? options;
  return {
    connectionString: server.url,
    host: server.host,
    port: server.port,
    user: server.username,
    password: server.password,
    database: server.database,
    ssl: server.ssl,
    application_name: options.applicationName ?? server.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMS,
    max: options.poolSize,
    ...options.extra,
  };
}

/** A pool hides its password from enumeration, so a plain copy of its options would lose it. */
export function poolConfigOfPool(pool: Pick<Pool, 'options'>): PoolConfig {
  return { ...pool.options, password: pool.options.password };
}
