/**
 * The Postgres that is measured on: one of the bench's own with every setting as it comes, so flushed
 * to disk, or the one that DATABASE_URL names. Every contestant has a database of its own on it.
 */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';
import { ownFolder } from './own-folder.js';

/** Told beside the figures: whoever compares two runs must know whether they waited for the same things. */
const SETTINGS = [
  'server_version',
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'wal_sync_method',
  'wal_compression',
  'shared_buffers',
  'max_wal_size',
  'checkpoint_timeout',
  'max_connections',
  'jit',
] as const;

/** Where the repository keeps data that stays on a disk: temporary folders are in memory on many machines. */
const DATA = fileURLToPath(new URL('../../.data/', import.meta.url));

export class Server {
  #databases = 0;

  private constructor(
    readonly url: string,
    private readonly end: () => Promise<void>,
  ) {}

  static async start(): Promise<Server> {
    const { DATABASE_URL } = process.env;
    if (DATABASE_URL) return new Server(DATABASE_URL, async () => undefined);
    const dataDir = await ownFolder(DATA);
    const postgres = await startPostgres({ dataDir });
    return new Server(postgres.url, async () => {
      await postgres.stop();
      await rm(dataDir, { recursive: true, force: true });
    });
  }

  async createDatabase(): Promise<BenchDatabase> {
    const name = `bench_${process.pid}_${(this.#databases += 1)}`;
    await this.run(`create database ${name}`);
    const database = new BenchDatabase(Object.assign(new URL(this.url), { pathname: `/${name}` }).href, () =>
      this.run(`drop database if exists ${name} with (force)`),
    );
    await database.run(ORDERS);
    return database;
  }

  async settings(): Promise<Readonly<Record<string, string>>> {
    const { rows } = await this.run('select name, current_setting(name) as value from pg_settings where name = any($1)', [SETTINGS]);
    return Object.fromEntries((rows as { name: string; value: string }[]).map(({ name, value }) => [name, value]));
  }

  /** What has been written so far is not to be written during a measurement. */
  async checkpoint(): Promise<void> {
    await this.run('checkpoint');
  }

  run(text: string, values: unknown[] = []): Promise<pg.QueryResult> {
    return onceOn(this.url, text, values);
  }

  /** Does something about the rows while the connection that they came over is still open. */
  async hold<T>(text: string, work: (rows: readonly unknown[]) => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      return await work((await client.query(text)).rows);
    } finally {
      await client.end();
    }
  }

  stop(): Promise<void> {
    return this.end();
  }
}

const ORDERS = `
  create table bench_orders (
    id         bigint      generated always as identity primary key,
    key        text,
    sku        text        not null,
    quantity   integer     not null,
    customer   text        not null,
    note       text        not null,
    created_at timestamptz not null default now()
  )`;

export class BenchDatabase {
  constructor(
    readonly url: string,
    readonly drop: () => Promise<unknown>,
  ) {}

  async run<Row>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await onceOn(this.url, text, values)).rows as Row[];
  }

  /** Nothing is written to that table meanwhile. */
  async whileLocked<T>(table: string, work: () => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query(`begin; lock table ${table} in exclusive mode`);
      return await work();
    } finally {
      await client.end(); // which lets go of it
    }
  }

  async orders(): Promise<{ readonly rows: number; readonly keys: number }> {
    const [counts] = await this.run<{ rows: number; keys: number }>(
      'select count(*)::int as rows, count(distinct key)::int as keys from bench_orders',
    );
    return counts ?? { rows: 0, keys: 0 };
  }
}

/** The bench keeps no connection of its own open while it measures. */
async function onceOn(url: string, text: string, values: unknown[]): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await client.query(text, values);
  } finally {
    await client.end();
  }
}
