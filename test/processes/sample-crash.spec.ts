/**
 * The promise of atomic mode, put to the test where it is easiest broken: a shop pays, and dies. At
 * every statement and at every await, each time at another one, until there is none left to die at.
 * Then a new shop is started on what the dead one has left, and the customer tries again.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

const SHOP = 'test/support/apps/mortal-shop.ts';
const MINUTES = 60_000;

/** How many shops die side by side, each on a database of its own. */
const LANES = 2;

interface Answer {
  readonly status: number;
  readonly replayed: boolean;
  readonly body: string;
}

/** What there is of a purchase, in all the books. */
interface Books {
  readonly orders: number;
  readonly payments: number;
  readonly ledgerEntries: number;
  /** What the provider was asked for, and what came of it. */
  readonly provider: readonly string[];
  readonly pendingMails: number;
  readonly mails: readonly string[];
  readonly steps: readonly string[];
}

interface Attempt {
  readonly key: string;
  readonly description: string;
  /** Where the shop was to die, and whether it did. */
  readonly point: string | undefined;
  readonly died: boolean;
  readonly heard: Answer | undefined;
  readonly left: Books;
  /** The body of the recorded answer. */
  readonly recorded: string | undefined;
}

describe('a payment in a shop that is killed', () => {
  let databases: readonly TestDatabase[];

  beforeAll(async () => {
    databases = await Promise.all(Array.from({ length: LANES }, createTestDatabase));
  });

  afterAll(async () => {
    for (const database of databases) await database.drop();
  });

  it(
    'leaves one order, one ledger entry, one charge and one mail behind, whenever that is',
    async () => {
      const points = await pointsOfALife(databases);
      for (const part of [
        'idempotency_claim',
        'PaymentsService.pay',
        'PaymentProvider.charge',
        'idempotency_record_step',
        'commit',
        'send',
      ]) {
        expect(points).toContainEqual(expect.stringContaining(part));
      }
      const left = [...points];
      const lived = (await Promise.all(databases.map((database) => dieAtEach(database, left)))).flat();
      expect(lived.filter((point) => !point.includes('PendingMail'))).toEqual([]); // the shop also looks for mails by the clock
    },
    20 * MINUTES,
  );
});

/** The points that a payment passes in a shop that lives. */
async function pointsOfALife([database]: readonly TestDatabase[]): Promise<readonly string[]> {
  if (database === undefined) throw new Error('There is no database.');
  const shop = await startShop(database, undefined);
  await payUntilDeath(database, shop, undefined);
  const [, points = '[]'] = /a mail is through: (\[.+\])/.exec(shop.output()) ?? [];
  return JSON.parse(points) as string[];
}

/** Takes a point at a time, as long as there are any. Each shop first has to make up for the one that died before it. Those at which none died. */
async function dieAtEach(database: TestDatabase, points: string[]): Promise<readonly string[]> {
  const lived: string[] = [];
  let last: Attempt | undefined;
  for (;;) {
    const point = points.shift();
    const shop = await startShop(database, point);
    if (last !== undefined) await expectOnce(database, shop, last);
    if (point === undefined) return end(shop).then(() => lived);
    last = await payUntilDeath(database, shop, point);
    if (!last.died) lived.push(point);
  }
}

/** A payment in a shop that does not outlive its fatal point, and what is left of it then. */
async function payUntilDeath(database: TestDatabase, shop: AppProcess, point: string | undefined): Promise<Attempt> {
  const [key, description] = [randomUUID(), `A vase ${randomUUID()}`];
  shop.kill('SIGUSR2');
  await shop.waitForLine(/^armed$/);
  const sent = pay(shop, key, description).catch(() => undefined);
  await Promise.race([shop.exited, shop.waitForLine(/^a mail is through: \[.+\]$/)]);
  const heard = await sent;
  await end(shop);
  await untilGone(database);
  await endLeases(database);
  const died = shop.output().includes(`killed at "${point}"`);
  return { key, description, point, died, heard, left: await booksOf(database, key, description), recorded: await recordOf(database, key) };
}

async function expectOnce(database: TestDatabase, shop: AppProcess, attempt: Attempt): Promise<void> {
  const { key, description, point, heard, left, recorded } = attempt;
  const retry = await pay(shop, key, description);
  const again = await pay(shop, key, description);
  const record = await recordOf(database, key);
  const books = await settledBooks(database, key, description);

  const killed = `killed at ${point}`;
  // The key was not wedged, and what was heard or recorded is what stands.
  expect([killed, retry.status, retry.replayed]).toEqual([killed, 201, recorded !== undefined]);
  if (heard !== undefined) expect([killed, heard.status, heard.body]).toEqual([killed, 201, retry.body]);
  expect([killed, record]).toEqual([killed, retry.body]);
  expect([killed, again]).toEqual([killed, { status: 201, replayed: true, body: retry.body }]);

  // Either all of it was there when the shop died, or none.
  const all = recorded === undefined ? 0 : 1;
  expect([killed, left.orders, left.payments, left.ledgerEntries]).toEqual([killed, all, all, all]);
  expect([killed, books.orders, books.payments, books.ledgerEntries]).toEqual([killed, 1, 1, 1]);

  // The provider charged once, and was not even asked again once its answer had been recorded.
  expect([killed, ...books.provider]).toEqual([killed, ...(books.provider.length === 1 ? ['charged'] : ['charged', 'repeated'])]);
  if (left.steps.includes('charge')) expect([killed, books.provider]).toEqual([killed, left.provider]);

  // There is one mail; a copy only if nobody could know that it had been sent, and then it can be told for one.
  expect([killed, new Set(books.mails).size, books.pendingMails]).toEqual([killed, 1, 0]);
  if (left.mails.length === 0 || left.steps.includes('send')) expect([killed, books.mails.length]).toEqual([killed, 1]);
}

function startShop({ url }: TestDatabase, fatalPoint: string | undefined): Promise<AppProcess> {
  const named = Object.assign(new URL(url), { search: 'application_name=shop' }).href;
  return startAppProcess(SHOP, { DATABASE_URL: named, PORT: '0', PROVIDER_DELAY_MS: '0', SMTP_URL: '', FATAL_POINT: fatalPoint });
}

async function end(shop: AppProcess): Promise<void> {
  shop.kill('SIGKILL');
  await shop.exited;
}

async function pay(shop: AppProcess, key: string, description: string): Promise<Answer> {
  const response = await fetch(`${shop.url}/payments`, {
    method: 'POST',
    headers: { Authorization: 'Bearer alice-token', 'Content-Type': 'application/json', 'Idempotency-Key': key },
    body: JSON.stringify({ amount: 4200, card: 'tok_visa', description }),
  });
  return { status: response.status, replayed: response.headers.get('idempotent-replayed') === 'true', body: await response.text() };
}

/** A dead process's connections end with it, but Postgres may learn of it a moment later. */
async function untilGone({ pool }: TestDatabase): Promise<void> {
  const others = `select from pg_stat_activity where datname = current_database() and application_name = 'shop'`;
  while ((await pool.query(others)).rowCount !== 0) await pause(10);
}

/** As time would: whatever is still claimed was claimed by a dead process. */
async function endLeases({ pool }: TestDatabase): Promise<void> {
  await pool.query('update idempotency_records set locked_until = statement_timestamp() where locked_until > statement_timestamp()');
}

/** The recorded answer's body, if there is one. */
async function recordOf({ pool }: TestDatabase, key: string): Promise<string | undefined> {
  const { rows } = await pool.query<{ body: string }>(
    `select convert_from(body, 'UTF8') as body from idempotency_records where key = $1 and status = 201`,
    [key],
  );
  return rows[0]?.body;
}

/** The books once the mail is sent. */
async function settledBooks(database: TestDatabase, key: string, description: string): Promise<Books> {
  for (;;) {
    const books = await booksOf(database, key, description);
    if (books.pendingMails === 0) return books;
    await pause(20);
  }
}

async function booksOf({ pool }: TestDatabase, key: string, description: string): Promise<Books> {
  const { rows } = await pool.query<Books>(
    `with ordered as (select id from orders where item = $2),
          paid as (select id from payments where description = $2),
          recorded as (select id from idempotency_records where key = $1 or key in (select id::text from ordered))
     select (select count(*)::int from ordered) as orders,
            (select count(*)::int from paid) as payments,
            (select count(*)::int from ledger_entries where payment_id in (select id from paid)) as "ledgerEntries",
            array(select outcome from provider_charges where description = $2 order by called_at) as provider,
            (select count(*)::int from pending_mails where about in (select id from ordered)) as "pendingMails",
            array(select substring(source from 'Message-ID: ([^[:space:]]+)')
                    from received_mails, ordered where strpos(source, ordered.id::text) > 0) as mails,
            array(select name from idempotency_steps where id in (select id from recorded)) as steps`,
    [key, description],
  );
  if (rows[0] === undefined) throw new Error('Postgres has lost a row.');
  return rows[0];
}
