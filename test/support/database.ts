/** A database of one's own on the run's Postgres: spec files run side by side and see nothing of each other. */
import { randomBytes } from 'node:crypto';
import { Client, Pool } from 'pg';
import { DataSource } from 'typeorm';
import { idempotencyMigrations, idempotencyMigrationsFor } from '../../migrations/index.js';
import type { MigrationChoices } from '../../migrations/index.js';

export interface TestDatabase {
  readonly url: string;
  /** For the test's own looks at the tables. The code under test makes its pools from `url`. */
  readonly pool: Pool;
  /** Removes the database, whoever is still connected to it. */
  drop(): Promise<void>;
}

export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`;
  await asAdmin(`create database ${name}`);
  const url = Object.assign(new URL(serverUrl()), { pathname: `/${name}` }).href;
  const pool = new Pool({ connectionString: url, max: 40 });
  pool.on('error', () => undefined); // an idle connection that a test's crash or restart has cut
  return {
    url,
    pool,
    async drop() {
      await pool.end();
      await asAdmin(`drop database if exists ${name} with (force)`);
    },
  };
}

/** Makes the library's tables, as an application's migration run would. */
export async function migrate(
  database: { readonly url: string },
  schema?: string,
  choices?: Omit<MigrationChoices, 'schema'>,
): Promise<void> {
  const migrations =
    schema === undefined && choices === undefined
      ? idempotencyMigrations
      : idempotencyMigrationsFor({ schema: schema ?? 'public', ...choices });
  const dataSource = new DataSource({ type: 'postgres', url: database.url, migrations: [...migrations] });
  await dataSource.initialize();
  try {
    await dataSource.runMigrations({ transaction: 'each' });
  } finally {
    await dataSource.destroy();
  }
}

function serverUrl(): string {
  const url = process.env['DATABASE_URL'];
  if (!url) throw new Error('There is no DATABASE_URL. Run the tests by "npm test", which starts a Postgres.');
  return url;
}

async function asAdmin(statement: string): Promise<void> {
  const client = new Client({ connectionString: serverUrl() });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
