/** `migrate`, `status` and `sql`, as a deploy runs them. */
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { DataSource } from 'typeorm';
import { createIdempotencyRecords } from '../../migrations/1764000000000-create-idempotency-records.js';
import { idempotencyMigrationsFor } from '../../migrations/index.js';
import { startCommand, type Ended } from '../support/command.js';
import { createTestDatabase, migrate, type TestDatabase } from '../support/database.js';

jest.setTimeout(60_000);

const [RECORDS, STEPS, INDEX] = ['0001_create_idempotency_records', '0002_create_idempotency_steps', 'optional_index_live_keys'] as const;

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

const start = (...args: string[]) => startCommand(args, { env: { DATABASE_URL: database.url } });
const run = (...args: string[]): Promise<Ended> => start(...args).ended;

async function json(...args: string[]): Promise<{ code: number | null; document: Record<string, unknown> }> {
  const { code, stdout } = await run(...args, '--json');
  return { code, document: JSON.parse(stdout) as Record<string, unknown> };
}

async function tables(schema: string): Promise<string[]> {
  const { rows } = await database.pool.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = $1 and tablename like 'idempotency%' order by 1`,
    [schema],
  );
  return rows.map(({ name }) => name);
}

/** Every column, index and setting, to tell whether anything was changed. */
async function layout(): Promise<unknown> {
  const { rows } = await database.pool.query(
    `select class.oid, relname, reloptions, attname, format_type(atttypid, atttypmod) as type, class.xmin
       from pg_class as class join pg_attribute on attrelid = class.oid
      where relname like 'idempotency%' order by relname, attnum`,
  );
  return rows;
}

describe('migrate', () => {
  it('makes the tables of an empty database, and changes nothing the next time', async () => {
    const planned = await json('migrate', '--dry-run');
    expect(planned).toEqual({ code: 0, document: { schema: 'public', dryRun: true, applied: [], pending: [RECORDS, STEPS] } });
    expect(await tables('public')).toEqual([]);

    const first = await run('migrate');
    expect(first).toMatchObject({ code: 0, stderr: '', stdout: `Applied in schema "public": ${RECORDS}, ${STEPS}.\n` });
    const made = await layout();
    expect(await json('migrate')).toEqual({ code: 0, document: { schema: 'public', dryRun: false, applied: [], pending: [] } });
    expect(await run('migrate', '--dry-run')).toMatchObject({ code: 0, stdout: 'Schema "public" has everything already.\n' });
    expect(await layout()).toEqual(made);
  });

  it('makes a schema of any name where it is missing', async () => {
    const schema = `Pay "ments"`;
    expect((await json('migrate', '--schema', schema)).document).toMatchObject({ schema, applied: [RECORDS, STEPS] });
    expect(await tables(schema)).toEqual(['idempotency_records', 'idempotency_steps']);
    expect(await run('status', '--schema', schema)).toMatchObject({ code: 0 });
    expect(await tables('public')).toEqual([]);
  });

  it('needs no right to make schemas where there is one', async () => {
    const role = `role_${process.pid}_${Date.now()}`;
    await database.pool.query(`create role ${role} login; create schema mine authorization ${role}`);
    try {
      const url = Object.assign(new URL(database.url), { username: role }).href;
      expect(await run('--url', url, 'migrate', '--schema', 'mine')).toMatchObject({ code: 0, stderr: '' });
      expect(await run('--url', url, 'migrate', '--schema', 'theirs')).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(/does not give this user the right.*permission denied for database/),
      });
    } finally {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it('brings tables of the first version up to date and keeps their rows', async () => {
    await database.pool.query(createIdempotencyRecords('public'));
    await database.pool.query(
      `insert into idempotency_records (id, owner, created_at, locked_until, reap_after, attempt, state, scope, operation, key, fingerprint)
       values (gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 hour', now(), 1, 0, '', '', 'old', '')`,
    );
    const before = await json('status');
    expect(before).toMatchObject({
      code: 5,
      document: { current: false, records: null, migrations: { applied: [RECORDS], pending: [STEPS] } },
    });
    expect((await json('migrate')).document).toMatchObject({ applied: [STEPS] });
    expect(await json('status')).toMatchObject({
      code: 0,
      document: { current: true, migrations: { pending: [] }, records: { running: 1 } },
    });
  });

  it.each(['before', 'after'])('goes together with an application that runs them by TypeORM %s', async (order) => {
    const byTypeorm = async (): Promise<number> => {
      const dataSource = new DataSource({
        type: 'postgres',
        url: database.url,
        migrations: idempotencyMigrationsFor({ schema: 'public' }),
      });
      await dataSource.initialize();
      const { length } = await dataSource.runMigrations();
      await dataSource.destroy();
      return length;
    };
    if (order === 'before') await byTypeorm();
    const { document } = await json('migrate');
    expect(document).toMatchObject({ applied: order === 'before' ? [] : [RECORDS, STEPS] });
    const made = await layout();
    expect(await byTypeorm()).toBe(order === 'before' ? 0 : 2);
    expect((await json('migrate')).document).toMatchObject({ applied: [] });
    expect(await layout()).toEqual(made);
  });

  /** Stands where another migration would while `work` goes on, until it is told to leave. */
  async function behindAnother(lock: string, work: (leave: () => Promise<unknown>) => Promise<void>): Promise<void> {
    const other = await database.pool.connect();
    await other.query(`begin; select ${lock}`);
    try {
      await work(() => other.query('rollback; select pg_advisory_unlock_all()'));
    } finally {
      other.release(true);
    }
  }
  const MIGRATING = `pg_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0))`;
  const INDEXING = `pg_advisory_lock(hashtextextended('nestjs-idempotency-pg index', 0))`;

  it.each(['read committed', 'serializable'])(
    'may be run by two at once: the one waits, says so, and finds what the other made (%s)',
    async (isolation) => {
      await database.pool.query(
        `alter database ${new URL(database.url).pathname.slice(1)} set default_transaction_isolation = '${isolation}'`,
      );
      await behindAnother(MIGRATING, async (leave) => {
        const both = [start('migrate', '--json'), start('migrate', '--json')];
        await Promise.all(both.map(({ told }) => told(/Another migration is under way; waiting for it/)));
        await leave();
        const ended = await Promise.all(both.map((command) => command.ended));
        expect(ended.map(({ code }) => code)).toEqual([0, 0]);
        const applied = ended.map(({ stdout }) => (JSON.parse(stdout) as { applied: string[] }).applied.length);
        expect(new Set(applied)).toEqual(new Set([0, 2]));
      });
      expect(await run('status')).toMatchObject({ code: 0 });
    },
  );

  it('does not wait for ever for another one', async () => {
    await behindAnother(MIGRATING, async () => {
      const ended = await run('migrate', '--timeout', '100ms');
      expect(ended).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/has not let go in time.*--timeout/) });
    });
    expect(await tables('public')).toEqual([]);
  });

  it('refuses tables of the same name that are not ours, and says how to compare them', async () => {
    await database.pool.query('create table idempotency_records (id int primary key); create table idempotency_steps (id int primary key)');
    expect(await run('migrate')).toMatchObject({
      code: 5,
      stdout: '',
      stderr: expect.stringMatching(/do not fit.*nestjs-idempotency-pg sql/),
    });
  });

  it('builds the index for maxLiveKeys when asked, and again where an attempt was interrupted', async () => {
    await run('migrate');
    const index = `select indisvalid from pg_index where indexrelid = to_regclass('idempotency_records_scope')`;
    expect(await json('status', '--max-live-keys')).toMatchObject({ code: 5, document: { migrations: { pending: [INDEX] } } });
    expect((await run('status', '--max-live-keys')).stdout).toMatch(/migrate --max-live-keys/);
    expect((await json('migrate', '--max-live-keys')).document).toMatchObject({ applied: [INDEX] });
    expect((await database.pool.query(index)).rows).toEqual([{ indisvalid: true }]);
    expect((await json('migrate', '--max-live-keys')).document).toMatchObject({ applied: [] });

    await database.pool.query(`update pg_index set indisvalid = false where indexrelid = to_regclass('idempotency_records_scope')`);
    expect(await run('status', '--max-live-keys')).toMatchObject({ code: 5 });
    await behindAnother(INDEXING, async (leave) => {
      const both = [start('migrate', '--max-live-keys', '--json'), start('migrate', '--max-live-keys', '--json')];
      await Promise.all(both.map(({ told }) => told(/waiting for it/)));
      await leave();
      const applied = (await Promise.all(both.map(({ ended }) => ended))).map(
        ({ stdout }) => (JSON.parse(stdout) as { applied: string[] }).applied,
      );
      expect(applied.flat()).toEqual([INDEX]);
    });
    expect((await database.pool.query(index)).rows).toEqual([{ indisvalid: true }]);
    expect(await run('status', '--max-live-keys')).toMatchObject({ code: 0 });
  });
});

describe('status', () => {
  it('lets a deploy wait for the tables: 5 before, 0 after', async () => {
    const before = await run('status');
    expect(before).toMatchObject({ code: 5, stderr: '' });
    expect(before.stdout).toMatch(/Tables +not current\nPending +0001_\w+, 0002_\w+\n\nWhat to do\n- .*nestjs-idempotency-pg migrate/);
    await migrate(database);
    const after = await run('status');
    expect(after).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/Tables +current\n[^]*All is well/) });
  });

  it('is one document with --json', async () => {
    await migrate(database, 'shop');
    const { port, hostname, username, pathname } = new URL(database.url);
    const { document } = await json('status', '--schema', 'shop');
    expect(document).toEqual({
      reachable: true,
      database: pathname.slice(1),
      host: hostname,
      port: Number(port),
      user: username,
      serverVersion: expect.stringMatching(/^\d+/),
      readOnly: false,
      schema: 'shop',
      migrations: { applied: [RECORDS, STEPS], pending: [] },
      current: true,
      synchronousCommit: 'on',
      records: { running: 0, lost: 0, completed: 0, sealed: 0, open: 0, expired: 0 },
      advice: [],
    });
  });

  it('names the schema that has the tables to whoever looks into another one', async () => {
    await migrate(database, 'shop');
    expect((await run('status')).stdout).toMatch(/There are some in "shop": is --schema as it should be/);
  });

  it('says what to do about lost keys, and names none', async () => {
    await migrate(database);
    await database.pool.query(
      `insert into idempotency_records (id, owner, created_at, locked_until, reap_after, attempt, state, scope, operation, key, fingerprint)
       values (gen_random_uuid(), gen_random_uuid(), now(), now() - interval '3 hours', now(), 1, 0, 'id=1', '', 'secret-key', '')`,
    );
    const { code, stdout } = await run('status');
    expect(code).toBe(0);
    expect(stdout).toMatch(/Oldest lost +\d{4}-\S+, 3 hours ago/);
    expect(stdout).toMatch(/- 1 record is lost.*show --lost.*resolve/);
    expect(stdout).not.toContain('secret-key');
  });

  it('warns of a database that forgets, and of one that only reads', async () => {
    await migrate(database);
    const name = new URL(database.url).pathname.slice(1);
    await database.pool.query(
      `alter database ${name} set synchronous_commit = off; alter database ${name} set default_transaction_read_only = on`,
    );
    expect(await json('status')).toMatchObject({
      code: 0,
      document: {
        readOnly: true,
        synchronousCommit: 'off',
        advice: [expect.stringMatching(/read-only.*primary/), expect.stringMatching(/synchronous_commit is off/)],
      },
    });
  });

  it('tells of the tables even to a role that may not read them', async () => {
    await migrate(database);
    const role = `role_${process.pid}_${Date.now()}`;
    await database.pool.query(`create role ${role} login`);
    try {
      const url = Object.assign(new URL(database.url), { username: role }).href;
      const { code, stdout } = await run('status', '--url', url, '--json');
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({
        current: true,
        records: null,
        advice: [expect.stringMatching(/could not be counted.*permission denied/)],
      });
    } finally {
      await database.pool.query(`drop role ${role}`);
    }
  });

  it('is a document too when Postgres is away', async () => {
    const { code, document } = await json('status', '--url', 'postgres://127.0.0.1:1/nowhere');
    expect(code).toBe(1);
    expect(document).toEqual({
      reachable: false,
      schema: 'public',
      error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', message: expect.stringMatching(/127\.0\.0\.1:1 .*refuses connections/) },
      advice: [],
    });
  });
});

describe('sql', () => {
  const offline = (...args: string[]): Promise<Ended> => startCommand(['sql', ...args]).ended;

  it('prints the .sql files of the package, without a database', async () => {
    const { code, stdout, stderr } = await offline();
    expect([code, stderr]).toEqual([0, '']);
    for (const name of [RECORDS, STEPS]) {
      const file = await readFile(new URL(`../../migrations/sql/${name}.up.sql`, import.meta.url), 'utf8');
      expect(stdout).toContain(file.slice(file.indexOf('\n\n')).trim());
    }
    expect((await offline('0002')).stdout).not.toContain(RECORDS);
  });

  it('makes what migrate makes in any schema, once and twice, and drops it again', async () => {
    const schema = `it's "$do$"`;
    const up = (await offline('--schema', schema)).stdout;
    await database.pool.query(up);
    await database.pool.query(up);
    expect(await json('migrate', '--schema', schema)).toMatchObject({ code: 0, document: { applied: [] } });
    await database.pool.query((await offline('--schema', schema, '--down')).stdout);
    expect(await tables(schema)).toEqual([]);
  });

  it('has each migration by itself with --json', async () => {
    const { stdout } = await offline('--down', '--json');
    expect(JSON.parse(stdout)).toEqual({
      schema: null,
      direction: 'down',
      migrations: [
        { name: STEPS, sql: expect.stringContaining('drop table if exists idempotency_steps') },
        { name: RECORDS, sql: expect.stringContaining('drop table if exists idempotency_records') },
      ],
    });
  });

  it('prints the index for maxLiveKeys by itself, since it must not be in a transaction', async () => {
    const { stdout } = await offline('--max-live-keys', '--schema', 'app');
    expect(stdout).toMatch(/outside of a transaction[^]*create index concurrently if not exists \w+ on "app"\.idempotency_records/);
    expect(stdout).not.toMatch(/create table|--single-transaction/);
  });

  it('refuses a name that is none', async () => {
    expect(await offline('0003')).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(RECORDS) });
  });
});
