/**
 * Postgres is killed and comes back while payments stand before and after every statement that they
 * send, and at every await of their handler. Then they go on, with connections that are dead.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Pool } from 'pg';
import { PROVIDER_TABLES, SHOP_TABLES } from '../support/apps/crash-shop.js';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { Judge } from './judge.js';
import type { Payment } from './judge.js';
import { OwnPostgres } from './own-postgres.js';
import { StoppedShop } from './stopped-shop.js';
import { VARIANTS } from './variants.js';
import type { Variant } from './variants.js';

const PATIENCE_MS = 120_000;

/** An execution of a process that lives gives its key back by itself, soon after it could not be ended. */
const MANY_TRIES = 200;

let postgres: OwnPostgres;
let pool: Pool;
/** The provider's books are elsewhere: they don't crash, and their commits flush nothing of the shop's. */
let books: TestDatabase;
let shop: StoppedShop;
let judge: Judge;

beforeAll(async () => {
  postgres = await OwnPostgres.start();
  await migrate(postgres);
  pool = new Pool({ connectionString: postgres.url, max: 40 });
  pool.on('error', () => undefined);
  // What nobody has waited for is then lost in a crash, and not by chance on disk already.
  await pool.query(`alter system set wal_writer_delay = '10s'`);
  await pool.query(SHOP_TABLES);
  await postgres.crashAndRecover();
  books = await createTestDatabase();
  await books.pool.query(PROVIDER_TABLES);
  shop = await StoppedShop.start({ databaseUrl: postgres.url, providerUrl: books.url, connections: 40, storeTimeout: '60s' });
  judge = new Judge(pool, books.pool, shop.url);
}, PATIENCE_MS);

afterAll(async () => {
  await shop.close();
  await pool.end();
  await books.drop();
  await postgres.stop();
}, PATIENCE_MS);

const crashedAt = (variant: Variant, cut: string): Payment => ({ key: randomUUID(), variant, cut: `Postgres killed ${cut}` });

describe.each(VARIANTS)('a payment by $path', (variant) => {
  it(
    'during which Postgres is killed at any point is answered truly, and done by a retry, once',
    async () => {
      const before = crashedAt(variant, 'after the answer');
      const { answer, points } = await shop.pass(before);
      const stopped = await Promise.all(points.map((point, i) => shop.stop(crashedAt(variant, `at point ${i + 1}, ${point}`), i + 1)));
      expect(stopped.map(({ stand }) => stand?.point)).toEqual(points);
      await postgres.crashAndRecover();
      for (const { stand } of stopped) stand?.goOn();
      const answered = [{ payment: before, answer }, ...stopped];

      const faults = await Promise.all(answered.map(async ({ payment, answer: given }) => judge.afterCut(payment, await given)));
      expect(faults.flat()).toEqual([]);
      expect((await Promise.all(answered.map(({ payment }) => judge.afterRetry(payment, 1, MANY_TRIES)))).flat()).toEqual([]);
    },
    PATIENCE_MS,
  );
});

describe('a claim that has not waited for the disk', () => {
  const variant = VARIANTS.find(({ path }) => path === 'atomic-steps')!;

  /** Alone: the commits of others would take it to the disk with them. */
  async function crashAt(point: string): Promise<{ readonly payment: Payment; readonly records: number }> {
    const { points } = await shop.pass(crashedAt(variant, 'nowhere'));
    const { payment, stand, answer } = await shop.stop(crashedAt(variant, point), points.indexOf(point) + 1);
    expect(stand?.point).toBe(point);
    await postgres.crashAndRecover();
    const { rowCount } = await pool.query('select from idempotency_records where key = $1', [payment.key]);
    stand?.goOn();
    expect((await answer).status).toBeGreaterThanOrEqual(400); // its transaction is gone
    return { payment, records: rowCount ?? 0 };
  }

  it(
    'may be forgotten when Postgres crashes, together with all that it was told afterwards',
    async () => {
      const { payment, records } = await crashAt('begun');
      expect(records).toBe(0);
      expect(await judge.afterRetry(payment, 1, MANY_TRIES)).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'once it is forgotten, is nothing that another system hears of from the process that lives on',
    async () => {
      const { payment, records } = await crashAt('before idempotency_flush');
      const { rowCount: calls } = await books.pool.query('select from calls where key = $1', [payment.key]);
      expect([records, calls]).toEqual([0, 0]);
      expect(await judge.afterRetry(payment, 1, MANY_TRIES)).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'is on disk before another system hears of it',
    async () => {
      const { payment, records } = await crashAt('before the call charge');
      expect(records).toBe(1);
      expect(await judge.afterRetry(payment, 1, MANY_TRIES)).toEqual([]);
    },
    PATIENCE_MS,
  );
});
