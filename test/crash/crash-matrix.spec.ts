/**
 * A process is killed before and after every statement that a payment sends, and at every await of
 * its handler. The points are not written down here: one payment is let through, tells what it has
 * passed, and at each of these another one is stopped, all in one process, which is then killed.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { PROVIDER_TABLES, SHOP_TABLES, startCrashShop } from '../support/apps/crash-shop.js';
import type { CrashShop } from '../support/apps/crash-shop.js';
import { Judge } from './judge.js';
import type { Payment } from './judge.js';
import { VARIANTS } from './variants.js';
import type { Variant } from './variants.js';
import { Victims } from './victims.js';

/** Two processes start for each of these, on whatever else this machine has to do. */
const PATIENCE_MS = 120_000;

let database: TestDatabase;
/** Takes the retries, and is never stopped. */
let survivor: CrashShop;
let victims: Victims;
let judge: Judge;

beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  await database.pool.query(`${SHOP_TABLES}; ${PROVIDER_TABLES}`);
  const stops = { standsAt: () => undefined, arrived: () => undefined };
  survivor = await startCrashShop({
    name: 'survivor',
    databaseUrl: database.url,
    providerUrl: database.url,
    connections: 10,
    sharedStatements: true,
    storeTimeout: '20s',
    stops,
  });
  judge = new Judge(database.pool, database.pool, survivor.url);
  victims = new Victims(database);
}, PATIENCE_MS);

afterAll(async () => {
  await victims.close();
  await survivor.close();
  await database.drop();
}, PATIENCE_MS);

const killedAt = (variant: Variant, cut: string): Payment => ({ key: randomUUID(), variant, cut: `killed ${cut}` });

async function judged(payments: readonly Payment[], verdict: (payment: Payment) => Promise<string[]>): Promise<string[]> {
  return (await Promise.all(payments.map(verdict))).flat();
}

describe.each(VARIANTS)('a payment by $path', (variant) => {
  it(
    'whose process is killed at any point is done by a retry, once, and answered the same ever after',
    async () => {
      const victim = await victims.next();
      const points = await victim.pointsOf(killedAt(variant, 'nowhere'));
      expect(points.at(-1)).toMatch(/^after (.+ \+ )?idempotency_(complete|commit)$/); // and only then the answer
      const payments = points.map((point, i) => killedAt(variant, `at point ${i + 1}, ${point}`));
      expect(await Promise.all(payments.map((payment, i) => victim.stop(payment, i + 1)))).toEqual(points);
      await victim.kill();

      expect(await judged(payments, async (payment) => judge.afterCut(payment, await victim.answerTo(payment)))).toEqual([]);
      await judge.letLeasesPass();
      expect(await judged(payments, (payment) => judge.afterRetry(payment))).toEqual([]);
    },
    PATIENCE_MS,
  );

  it(
    'whose retry is killed as well, at any point of its own, is done by the next one',
    async () => {
      const [first, second] = [await victims.next(), await victims.next()];
      const points = await first.pointsOf(killedAt(variant, 'nowhere'));
      // Late enough for the retry to find something of everything there is to find.
      const late = points.length - 2;
      const payments = points.map(() => killedAt(variant, `at point ${late}, ${points[late - 1]}, and then killed`));
      await Promise.all(payments.map((payment) => first.stop(payment, late)));
      await first.kill();
      await judge.letLeasesPass();

      const [whole, ...resumed] = payments;
      const resumedPoints = await second.pointsOf(whole!);
      const cut = resumed
        .slice(0, resumedPoints.length)
        .map((payment, i) => ({ ...payment, cut: `${payment.cut} at point ${i + 1}, ${resumedPoints[i]}` }));
      expect(await Promise.all(cut.map((payment, i) => second.stop(payment, i + 1)))).toEqual(resumedPoints.slice(0, cut.length));
      await second.kill();

      expect(await judged(cut, async (payment) => judge.afterCut(payment, await second.answerTo(payment)))).toEqual([]);
      await judge.letLeasesPass();
      expect(await judged(cut, (payment) => judge.afterRetry(payment, 2))).toEqual([]);
    },
    PATIENCE_MS,
  );
});
