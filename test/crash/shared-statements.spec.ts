/**
 * A process is killed before, in and after a statement that many of its payments share: all of them are
 * cut short at once, some with their claims, some with their answers. Each of them is judged by itself.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Answer } from '../e2e/support/wire.js';
import { startAppProcess } from '../support/app-process.js';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { PROVIDER_TABLES, SHOP_TABLES, startCrashShop } from '../support/apps/crash-shop.js';
import type { CrashShop } from '../support/apps/crash-shop.js';
import { Judge, pay } from './judge.js';
import type { Payment } from './judge.js';
import { VARIANTS } from './variants.js';
import type { Variant } from './variants.js';

const PATIENCE_MS = 120_000;

/** One statement takes the first of them, and the next one what has come meanwhile. */
const AT_ONCE = 20;

let database: TestDatabase;
/** Takes the retries, and is never stopped. */
let survivor: CrashShop;
let judge: Judge;

beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  await database.pool.query(`${SHOP_TABLES}; ${PROVIDER_TABLES}`);
  survivor = await startCrashShop({
    name: 'survivor',
    databaseUrl: database.url,
    providerUrl: database.url,
    connections: 10,
    sharedStatements: true,
    storeTimeout: '20s',
    stops: { standsAt: () => undefined, arrived: () => undefined },
  });
  judge = new Judge(database.pool, database.pool, survivor.url);
}, PATIENCE_MS);

afterAll(async () => {
  await survivor.close();
  await database.drop();
}, PATIENCE_MS);

interface Cut {
  readonly payment: Payment;
  readonly answer: Answer | undefined;
}

/** Payments come in crowds until the shop is dead. */
async function cutShort(variant: Variant, fatalPoint: string): Promise<Cut[]> {
  const shop = await startAppProcess('test/support/apps/crowded-shop.ts', {
    DATABASE_URL: database.url,
    PROVIDER_URL: database.url,
    FATAL_POINT: fatalPoint,
  });
  const cuts: Promise<Cut>[] = [];
  let isDead = false;
  void shop.exited.then(() => (isDead = true));
  while (!isDead) {
    const crowd = Array.from({ length: AT_ONCE }, async (): Promise<Cut> => {
      const payment = { key: randomUUID(), variant, cut: `killed at “${fatalPoint}”` };
      return { payment, answer: await pay(shop.url, payment).catch(() => undefined) };
    });
    cuts.push(...crowd);
    await Promise.all(crowd);
  }
  expect(await shop.exited).toEqual({ code: null, signal: 'SIGKILL' });
  const left = 'select from pg_stat_activity where application_name = $1';
  while (((await database.pool.query(left, [`crowded shop ${shop.pid}`])).rowCount ?? 0) > 0);
  return Promise.all(cuts);
}

async function judged(cuts: readonly Cut[], verdict: (cut: Cut) => Promise<string[]>): Promise<string[]> {
  return (await Promise.all(cuts.map(verdict))).flat();
}

const cases: [path: string, statement: string][] = [
  ['plain', 'idempotency_claim_shared'],
  ['plain', 'idempotency_complete_shared'],
  ['plain-steps', 'idempotency_claim_shared'],
  ['plain-steps', 'idempotency_complete_shared'],
  ['atomic', 'idempotency_claim_shared_unflushed'],
];

describe.each(cases)('payments by %s, whose process is killed at %s', (path, statement) => {
  const variant = VARIANTS.find((candidate) => candidate.path === path)!;

  it.each(['not sent', 'sent', 'answered'])(
    'when it was %s, are each done by a retry, once, and answered the same ever after',
    async (progress) => {
      const cuts = await cutShort(variant, `${statement}, ${progress}`);
      expect(cuts.filter(({ answer }) => answer === undefined).length).toBeGreaterThan(1);
      expect(await judged(cuts, ({ payment, answer }) => judge.afterCut(payment, answer))).toEqual([]);
      await judge.letLeasesPass();
      expect(await judged(cuts, ({ payment }) => judge.afterRetry(payment))).toEqual([]);
    },
    PATIENCE_MS,
  );
});
