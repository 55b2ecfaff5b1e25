import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { Client } from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { createIdempotencyRecords, dropIdempotencyRecords } from '../../migrations/1764000000000-create-idempotency-records.js';
import { createIdempotencySteps, dropIdempotencySteps } from '../../migrations/1767000000000-create-idempotency-steps.js';
import { createLiveKeysIndex, dropLiveKeysIndex } from '../../migrations/1768000000000-index-live-keys.js';
import { idempotencyMigrations, idempotencyMigrationsFor, type IdempotencyMigration } from '../../migrations/index.js';
import { barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import type { StoreNeeds } from '../../lib/contract/store.js';
import { createPostgresStore } from '../../lib/store/postgres-store.js';
import { statements } from '../../lib/store/statements.js';
import { tablesIn } from '../../lib/store/table-name.js';
import { IN_TIME } from './store-fixture.js';

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

async function withDataSource<T>(migrations: IdempotencyMigration[], work: (dataSource: DataSource) => Promise<T>): Promise<T> {
  const dataSource = new DataSource({ type: 'postgres', url: database.url, migrations });
  await dataSource.initialize();
  try {
    return await work(dataSource);
  } finally {
    await dataSource.destroy();
  }
}

/** Columns, defaults, constraints, indexes and storage settings of every table of ours. */
async function layout(schema = 'public'): Promise<unknown> {
  return Promise.all(['idempotency_records', 'idempotency_steps'].map((table) => layoutOf(schema, table)));
}

async function layoutOf(schema: string, name: string): Promise<unknown> {
  const table = `to_regclass(format('%I.${name}', $1::text))`;
  const columns = `select attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation::text, attcompression, attstorage
                     from pg_attribute where attrelid = ${table} and attnum > 0 and not attisdropped order by attnum`;
  const indexes = `select replace(pg_get_indexdef(indexrelid), $1, '') as index from pg_index where indrelid = ${table} order by 1`;
  const settings = `select reloptions from pg_class where oid = ${table}`;
  const rows = await Promise.all([columns, indexes, settings].map((query) => database.pool.query<object>(query, [schema])));
  return rows.map((result) => result.rows);
}

const nothing = [
  [[], [], []],
  [[], [], []],
];

async function undoAll(dataSource: DataSource, options = {}): Promise<void> {
  for (const _ of idempotencyMigrations) await dataSource.undoLastMigration(options);
}

async function inspect(schema: string, needs?: StoreNeeds): Promise<void> {
  const connection = { connectionString: database.url };
  const application = { pool: database.pool };
  const store = createPostgresStore({
    connection,
    application,
    schema,
    poolSize: 1,
    preparedStatements: true,
    sharedStatements: true,
    storeTimeoutMs: IN_TIME,
  });
  try {
    await store.inspect(needs);
  } finally {
    await store.close();
  }
}

describe('the migrations', () => {
  it.each<NonNullable<DataSourceOptions['migrationsTransactionMode']>>(['all', 'each', 'none'])(
    'go up and down (transaction mode %s)',
    async (transaction) => {
      await withDataSource(idempotencyMigrations, async (dataSource) => {
        expect(await dataSource.runMigrations({ transaction })).toHaveLength(2);
        await inspect('public');
        expect(await dataSource.showMigrations()).toBe(false);
        await undoAll(dataSource, { transaction });
        expect(await layout()).toEqual(nothing);
      });
    },
  );

  it('change nothing when they are run again, even where TypeORM has forgotten the first time', async () => {
    await withDataSource(idempotencyMigrations, async (dataSource) => {
      await dataSource.runMigrations();
      const before = await layout();
      await dataSource.query('delete from migrations');
      await dataSource.runMigrations();
      expect(await layout()).toEqual(before);
    });
  });

  it.each<NonNullable<DataSourceOptions['migrationsTransactionMode']>>(['each', 'none'])(
    'may be run by four instances at once (transaction mode %s)',
    async (transaction) => {
      await withDataSource([], (dataSource) => dataSource.runMigrations()); // TypeORM's own table, which it does not make safely
      const gate = barrier(4);
      await Promise.all(
        Array.from({ length: 4 }, () =>
          withDataSource(idempotencyMigrationsFor({ schema: 'fresh' }), async (dataSource) => {
            await gate.arrive();
            await dataSource.runMigrations({ transaction });
          }),
        ),
      );
      await expect(inspect('fresh')).resolves.toBeUndefined();
    },
  );

  it('make the schema where it is missing, and leave it when they go', async () => {
    await withDataSource(idempotencyMigrationsFor({ schema: `Pay "ments"` }), async (dataSource) => {
      await dataSource.runMigrations();
      await inspect(`Pay "ments"`);
      await undoAll(dataSource);
      expect(await layout(`Pay "ments"`)).toEqual(nothing);
      expect((await database.pool.query(`select from pg_namespace where nspname = 'Pay "ments"'`)).rowCount).toBe(1);
    });
  });

  it('need no right to make schemas where there is one', async () => {
    const role = `role_${process.pid}_${Date.now()}`;
    await database.pool.query(`create role ${role} login; create schema mine authorization ${role}`);
    try {
      const url = Object.assign(new URL(database.url), { username: role }).href;
      const migrations = idempotencyMigrationsFor({ schema: 'mine' });
      const dataSource = await new DataSource({ type: 'postgres', url, schema: 'mine', migrations }).initialize();
      await dataSource.runMigrations();
      await dataSource.destroy();
      await expect(inspect('mine')).resolves.toBeUndefined();
    } finally {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it('of two schemas are other ones, and a change of schema is one still to be run', async () => {
    const both = [...idempotencyMigrations, ...idempotencyMigrationsFor({ schema: 'other' })];
    const names = await withDataSource(both, async (dataSource) => (await dataSource.runMigrations()).map(({ name }) => name));
    expect(names).toEqual([
      'CreateIdempotencyRecords1764000000000',
      'CreateIdempotencyRecords_other_1764000000000',
      'CreateIdempotencySteps1767000000000',
      'CreateIdempotencySteps_other_1767000000000',
    ]);
    await inspect('public');
    await inspect('other');
  });

  it.each([
    ['bodies', 'idempotency_records', 'body'],
    ['results', 'idempotency_steps', 'result'],
  ])('compress %s with lz4 where the server has it', async (_, table, column) => {
    await withDataSource(idempotencyMigrations, (dataSource) => dataSource.runMigrations());
    const { rows } = await database.pool.query<{ has: boolean; method: string }>(
      `select enumvals @> '{lz4}' as has, (select attcompression from pg_attribute where attrelid = $1::regclass and attname = $2) as method
         from pg_settings where name = 'default_toast_compression'`,
      [table, column],
    );
    expect(rows[0]!.method).toBe(rows[0]!.has ? 'l' : '');
  });
});

describe('the index for live keys', () => {
  const COUNTED = { maxLiveKeys: true };
  const migrationsWith = (schema: string): IdempotencyMigration[] => idempotencyMigrationsFor({ schema, ...COUNTED });

  it.each<NonNullable<DataSourceOptions['migrationsTransactionMode']>>(['all', 'each', 'none'])(
    'goes up and down with the others, for those who ask for it (transaction mode %s)',
    async (transaction) => {
      await withDataSource(migrationsWith(`Pay "ments'`), async (dataSource) => {
        expect(await dataSource.runMigrations({ transaction })).toHaveLength(3);
        await inspect(`Pay "ments'`, COUNTED);
        await dataSource.undoLastMigration({ transaction });
        await expect(inspect(`Pay "ments'`, COUNTED)).rejects.toMatchObject({ code: 'IDEMPOTENCY_SCHEMA_OUTDATED' });
        await inspect(`Pay "ments'`);
      });
    },
  );

  it('can be had later, by running what is then new', async () => {
    await withDataSource(idempotencyMigrations, (dataSource) => dataSource.runMigrations());
    const run = await withDataSource(migrationsWith('public'), async (dataSource) => dataSource.runMigrations({ transaction: 'none' }));
    expect(run.map(({ name }) => name)).toEqual(['IndexIdempotencyLiveKeys1768000000000']);
    await inspect('public', COUNTED);
  });

  it('is none when its making was interrupted, and is made again', async () => {
    await withDataSource(migrationsWith('public'), async (dataSource) => {
      await dataSource.runMigrations();
      await database.pool.query(`update pg_index set indisvalid = false where indexrelid = 'idempotency_records_scope'::regclass`);
      await expect(inspect('public', COUNTED)).rejects.toMatchObject({ message: expect.stringMatching(/no valid one/) });
      await database.pool.query(`delete from migrations where name like 'Index%'`);
      await dataSource.runMigrations({ transaction: 'none' });
      await inspect('public', COUNTED);
    });
  });

  it('is the classes’ statement in the .sql files', async () => {
    const text = (direction: string) =>
      readFile(new URL(`../../migrations/sql/optional_index_live_keys.${direction}.sql`, import.meta.url), 'utf8');
    const [up, down] = [await text('up'), await text('down')];
    expect(up.slice(up.indexOf('\n\n') + 2)).toBe(createLiveKeysIndex());
    expect(down.slice(down.indexOf('\n\n') + 2)).toBe(dropLiveKeysIndex());
    await withDataSource(idempotencyMigrations, (dataSource) => dataSource.runMigrations());
    for (const _ of [1, 2]) await database.pool.query(up);
    await inspect('public', COUNTED);
    for (const _ of [1, 2]) await database.pool.query(down);
    await expect(inspect('public', COUNTED)).rejects.toBeDefined();
  });

  it('is what a count goes by', async () => {
    await withDataSource(migrationsWith('public'), (dataSource) => dataSource.runMigrations());
    await database.pool.query(`
      insert into idempotency_records (id, owner, created_at, expires_at, reap_after, attempt, state, scope, operation, key, fingerprint)
      select gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 day', now() + interval '1 day', 1, 1, 'id=' || n % 50, '', n::text, ''
        from generate_series(1, 20000) as n`);
    await database.pool.query('analyze idempotency_records');
    const counting = statements(tablesIn('public')).claimWithin.text;
    for (const mode of ['force_generic_plan', 'force_custom_plan']) {
      const client = await database.pool.connect();
      await client.query(`set plan_cache_mode = ${mode}; prepare counting as ${counting}`);
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(
        `explain execute counting (gen_random_uuid(), 'id=1', '', 'k', '', gen_random_uuid(), 1000, 1000, 100)`,
      );
      client.release(true);
      expect(rows.map((row) => row['QUERY PLAN']).join()).toMatch(/Limit.*Index Scan Backward using idempotency_records_scope/);
    }
  });
});

describe('the .sql files', () => {
  const file = (step: string, direction: 'up' | 'down') =>
    readFile(new URL(`../../migrations/sql/${step}.${direction}.sql`, import.meta.url), 'utf8');
  const [RECORDS, STEPS] = ['0001_create_idempotency_records', '0002_create_idempotency_steps'] as const;
  /** What stands after the paragraph that tells how to run it. */
  const withoutHead = (sql: string) => sql.slice(sql.indexOf('\n\n') + 2);

  it('are the classes’ statements, with unqualified names', async () => {
    expect(withoutHead(await file(RECORDS, 'up'))).toBe(createIdempotencyRecords());
    expect(withoutHead(await file(RECORDS, 'down'))).toBe(dropIdempotencyRecords());
    expect(withoutHead(await file(STEPS, 'up'))).toBe(createIdempotencySteps());
    expect(withoutHead(await file(STEPS, 'down'))).toBe(dropIdempotencySteps());
  });

  it('can be run in any schema, twice, and make the same tables', async () => {
    await database.pool.query('create schema elsewhere');
    const client = new Client({ connectionString: database.url, options: '-c search_path=elsewhere' });
    await client.connect();
    for (const step of [RECORDS, RECORDS, STEPS, STEPS]) await client.query(await file(step, 'up'));
    await withDataSource(idempotencyMigrations, (dataSource) => dataSource.runMigrations());
    await inspect('elsewhere');
    expect(JSON.stringify(await layout('elsewhere'))).toBe(JSON.stringify(await layout('public')));
    for (const step of [STEPS, STEPS, RECORDS, RECORDS]) await client.query(await file(step, 'down'));
    expect(await layout('elsewhere')).toEqual(nothing);
    await client.end();
  });
});
