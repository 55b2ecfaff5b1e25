/**
 * The network between the shop and Postgres breaks: at every statement of a payment, on the way
 * there or on the way back, COMMIT among them; and everywhere at once.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { codeOf } from '../e2e/support/wire.js';
import { PROVIDER_TABLES, SHOP_TABLES } from '../support/apps/crash-shop.js';
import type { PoolClient } from 'pg';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { startBreakableLines } from './breakable-lines.js';
import type { BreakableLines } from './breakable-lines.js';
import { Judge, pay } from './judge.js';
import type { Payment } from './judge.js';
import { StoppedShop } from './stopped-shop.js';
import type { Stopped } from './stopped-shop.js';
import { VARIANTS } from './variants.js';
import type { Variant } from './variants.js';

const PATIENCE_MS = 120_000;

/** An execution of a process that lives gives its key back by itself, soon after it could not be ended. */
const MANY_TRIES = 200;

/** The advisory lock that stands for a slow COMMIT. */
const COMMITS = 1;

let database: TestDatabase;
let lines: BreakableLines;
let shop: StoppedShop;
let judge: Judge;

beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  await database.pool.query(`${SHOP_TABLES}; ${PROVIDER_TABLES}`);
  lines = await startBreakableLines(database.url);
  shop = await StoppedShop.start({ databaseUrl: lines.url, providerUrl: database.url, connections: 40, storeTimeout: '60s' });
  judge = new Judge(database.pool, database.pool, shop.url);
}, PATIENCE_MS);

afterAll(async () => {
  await shop.close();
  await lines.close();
  await database.drop();
}, PATIENCE_MS);

/** What Postgres does at COMMIT then waits until the test lets it. */
const SLOW_COMMIT = `
  create function wait_for_the_test() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock_shared(${COMMITS}); return null; end';
  create constraint trigger slow_commit after insert on payments deferrable initially deferred for each row execute function wait_for_the_test()`;

const cutAt = (variant: Variant, cut: string): Payment => ({ key: randomUUID(), variant, cut: `network cut ${cut}` });

async function faultsOf(stopped: readonly Stopped[]): Promise<string[]> {
  for (const { stand } of stopped) stand?.goOn();
  const first = await Promise.all(stopped.map(async ({ payment, answer }) => judge.afterCut(payment, await answer)));
  const later = await Promise.all(stopped.map(({ payment }) => judge.afterRetry(payment, 1, MANY_TRIES)));
  return [...first, ...later].flat();
}

describe.each(VARIANTS)('a payment by $path', (variant) => {
  it.each(['the statement', 'the answer', 'the patience'] as const)(
    'is answered truly and done by a retry, once, where any line loses %s',
    async (loss) => {
      const { points } = await shop.pass(cutAt(variant, 'nowhere'));
      if (variant.atomic) expect(points).toContainEqual(expect.stringMatching(/^before .+ \+ idempotency_(complete|commit)$/));
      const sent = points.map((point, i) => ({ point, at: i + 1 })).filter(({ point }) => /^before (?!the call)/.test(point));
      const stopped = await Promise.all(sent.map(({ point, at }) => shop.stop(cutAt(variant, `${point}, and ${loss} lost`), at)));
      expect(stopped.map(({ stand }) => stand?.point)).toEqual(sent.map(({ point }) => point));
      for (const { stand } of stopped) lines.lose(loss, stand?.port);
      expect(await faultsOf(stopped)).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'is answered truly and done by a retry, once, where all lines break at any point',
    async () => {
      const { points } = await shop.pass(cutAt(variant, 'nowhere'));
      const stopped = await Promise.all(points.map((point, i) => shop.stop(cutAt(variant, point), i + 1)));
      lines.cut();
      expect(await faultsOf(stopped)).toEqual([]);
    },
    PATIENCE_MS,
  );
});

describe('a COMMIT that is still under way when the line breaks', () => {
  const variant = VARIANTS.find(({ path }) => path === 'atomic')!;
  let test: PoolClient;
  let hasty: StoppedShop;

  beforeAll(async () => {
    hasty = await StoppedShop.start({ databaseUrl: lines.url, providerUrl: database.url, connections: 4, storeTimeout: '3s' });
    await database.pool.query(SLOW_COMMIT);
    test = await database.pool.connect();
  }, PATIENCE_MS);
  afterAll(async () => {
    test.release();
    await database.pool.query('drop trigger slow_commit on payments');
    await hasty.close();
  });

  const letCommit = (): Promise<unknown> => test.query(`select pg_advisory_unlock(${COMMITS})`);

  /** Returns when the COMMIT is under way and the line is broken. */
  async function breakAtCommit(through: StoppedShop): Promise<Stopped> {
    const { points } = await through.pass(cutAt(variant, 'nowhere'));
    const stopped = await through.stop(
      cutAt(variant, 'within COMMIT'),
      points.indexOf('before idempotency_complete_or_fail + idempotency_commit') + 1,
    );
    await test.query(`select pg_advisory_lock(${COMMITS})`);
    lines.lose('the patience', stopped.stand?.port);
    stopped.stand?.goOn();
    await until(`wait_event = 'advisory'`);
    return stopped;
  }

  async function until(somebody: string): Promise<void> {
    const backends = `select from pg_stat_activity where datname = current_database() and ${somebody}`;
    while ((await database.pool.query(backends)).rowCount === 0) await pause(10);
  }

  it(
    'is waited for, and then answered as it went',
    async () => {
      const { payment, answer } = await breakAtCommit(shop);
      await until(`wait_event = 'transactionid'`); // the way it went is asked of the row's lock
      await letCommit();
      expect((await answer).status).toBe(201);
      expect(await judge.afterCut(payment, await answer)).toEqual([]);
      expect(await judge.afterRetry(payment)).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'is not waited for longer than Postgres at all; its key stays taken until it has gone one way or the other',
    async () => {
      const { payment, answer } = await breakAtCommit(hasty);
      const { status, headers } = await answer;
      expect([status, headers['retry-after']]).toEqual([503, ['1']]);
      await database.pool.query(
        `do 'begin while exists (select from idempotency_records where state = 0 and locked_until > clock_timestamp()) loop end loop; end'`,
      );
      const early = await pay(shop.url, payment); // its lease is over, and yet it is nobody's to take
      expect([early.status, codeOf(early)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
      await letCommit();
      expect(await judge.afterRetry(payment, 1, MANY_TRIES)).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'that comes to nothing leaves the key to the retry',
    async () => {
      const { payment, answer } = await breakAtCommit(shop);
      await until(`wait_event = 'transactionid'`);
      await database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()`,
      );
      expect((await answer).status).toBe(503);
      expect(await judge.afterCut(payment, await answer)).toEqual([]);
      await letCommit();
      expect(await judge.afterRetry(payment)).toEqual([]);
    },
    PATIENCE_MS,
  );
});
