/** The sample shop as it lives: its customers call it with our client over a line that loses answers, and its operator has the command line. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { idempotentFetch } from '../../lib/client/index.js';
import type { ReplayEvent, RetryEvent } from '../../lib/client/index.js';
import { runCommand } from '../support/command.js';
import type { Ended } from '../support/command.js';
import { startFrailLine } from '../support/frail-line.js';
import type { FrailLine } from '../support/frail-line.js';
import { openSampleShop, stop } from '../support/sample-shop.js';
import type { SampleShop } from '../support/sample-shop.js';
import { until } from './support/stage.js';
import { isReplay } from './support/wire.js';

jest.setTimeout(60_000); // starts an application, and a process for each command

let shop: SampleShop;
let line: FrailLine;

beforeAll(async () => {
  shop = await openSampleShop();
  line = await startFrailLine(shop.process.url);
});

afterAll(async () => {
  await line.close();
  await shop.close();
});

const LOSSES: [string, number[]][] = [
  ['before its first byte', [0]],
  ['within its head', [40]],
  ['within its body', [-5]],
  ['four times, each time elsewhere', [0, 40, -1, -20]],
];

interface Got {
  readonly status: number;
  readonly body: unknown;
  readonly retries: readonly string[];
  readonly replays: number;
  /** How many keys the tries had. */
  readonly keys: number;
}

/** Alice's request by the client, whose first answers are lost after so many bytes. */
async function ask(method: string, path: string, body: object, losses: readonly number[], key?: string): Promise<Got> {
  const retries: RetryEvent[] = [];
  const replays: ReplayEvent[] = [];
  const call = idempotentFetch({ baseDelayMs: 1, onRetry: (event) => retries.push(event), onReplay: (event) => replays.push(event) });
  line.breakAfter(...losses);
  const response = await call(line.url + path, {
    method,
    headers: { authorization: 'Bearer alice-token', 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(key !== undefined && { idempotencyKey: key }),
  });
  return {
    status: response.status,
    body: await response.json(),
    retries: retries.map(({ reason }) => reason),
    replays: replays.length,
    keys: new Set(retries.map((event) => event.key)).size,
  };
}

const broken = (losses: readonly number[]): string[] => losses.map(() => 'network');

async function rows(statement: string, ...values: unknown[]): Promise<unknown[]> {
  return (await shop.database.pool.query<Record<string, unknown>>(statement, values)).rows;
}

const aPayment = (): { amount: number; card: string; description: string } => ({
  amount: 4200,
  card: 'tok_visa',
  description: `A lamp ${randomUUID()}`,
});

/** What a payment came to: every call that reached the provider, and what the shop has of it. */
async function tracesOf(description: string): Promise<Record<string, unknown[]>> {
  return {
    provider: await rows('select outcome from provider_charges where description = $1', description),
    payments: await rows('select id, state from payments where description = $1', description),
    orders: await rows('select item from orders where item = $1', description),
    ledger: await rows(
      'select debit, credit from ledger_entries where payment_id = (select id from payments where description = $1)',
      description,
    ),
  };
}

describe.each(LOSSES)('an answer lost %s', (_, losses) => {
  it('leaves one charge, one payment, one order and one entry in the ledger, and the client has the payment', async () => {
    const payment = aPayment();
    const got = await ask('POST', '/payments', payment, losses);
    const id = (got.body as { id: string }).id;
    expect(got).toMatchObject({ status: 201, body: { amount: 4200, state: 'paid' }, retries: broken(losses), replays: 1, keys: 1 });
    expect(await tracesOf(payment.description)).toEqual({
      provider: [{ outcome: 'charged' }],
      payments: [{ id, state: 'paid' }],
      orders: [{ item: payment.description }],
      ledger: [{ debit: 'provider', credit: 'sales' }],
    });
  });

  it('of a card that the bank declines is that it was declined, asked once', async () => {
    const payment = { ...aPayment(), card: 'tok_declined' };
    const got = await ask('POST', '/payments', payment, losses);
    expect(got).toMatchObject({ status: 402, retries: broken(losses), replays: 1, keys: 1 });
    expect(await tracesOf(payment.description)).toEqual({ provider: [{ outcome: 'declined' }], payments: [], orders: [], ledger: [] });
  });

  it('leaves one order, by a key or by an id of the client', async () => {
    const [byKey, byId] = [`A pan ${randomUUID()}`, randomUUID()];
    const posted = await ask('POST', '/orders', { item: byKey, quantity: 2 }, losses);
    expect(posted).toMatchObject({ status: 201, body: { item: byKey, quantity: 2 }, retries: broken(losses), replays: 1 });
    expect(await rows('select id from orders where item = $1', byKey)).toEqual([{ id: (posted.body as { id: string }).id }]);

    const put = await ask('PUT', `/orders/${byId}`, { item: byId, quantity: 1 }, losses);
    expect(put).toMatchObject({ status: 200, body: { id: byId }, retries: broken(losses), replays: 0 }); // 200: it is there
    expect(await rows('select id from orders where item = $1', byId)).toEqual([{ id: byId }]);
  });

  it('has moved the money once', async () => {
    const [from, to] = [`from-${randomUUID()}`, `to-${randomUUID()}`];
    await rows(`insert into accounts (id, user_id, balance) values ($1, 'alice', 1000), ($2, 'bob', 0)`, from, to);
    const transfer = { transactionId: randomUUID(), from, to, amount: 300 };
    const got = await ask('POST', '/transfers', transfer, losses);
    expect(got).toMatchObject({ status: 200, body: transfer, retries: broken(losses), replays: 0 });
    expect(await rows('select balance from accounts where id in ($1, $2) order by id', from, to)).toEqual([
      { balance: 700 },
      { balance: 300 },
    ]);
  });

  it('has taken from the shelf once', async () => {
    const item = `A vase ${randomUUID()}`;
    await rows('insert into stock (item, available) values ($1, 10)', item);
    const got = await ask('POST', '/reservations', { item, quantity: 3 }, losses);
    expect(got).toMatchObject({ status: 201, body: { item, quantity: 3, state: 'reserved' }, retries: broken(losses), replays: 1 });
    expect(await rows('select available from stock where item = $1', item)).toEqual([{ available: 7 }]);
    expect(await rows('select reference from reservations where item = $1', item)).toEqual([
      { reference: (got.body as { reference: string }).reference },
    ]);
  });
});

describe('at the command line', () => {
  const ALICE = 'id=alice';

  const command = (...args: string[]): Promise<Ended> => runCommand(args, { env: { DATABASE_URL: shop.database.url } });

  async function told(...args: string[]): Promise<unknown> {
    const { code, stdout, stderr } = await command(...args, '--json');
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout);
  }

  /** A payment whose first answer was lost, and its key. */
  async function paid(): Promise<{ key: string; description: string }> {
    const [key, payment] = [randomUUID(), aPayment()];
    expect((await ask('POST', '/payments', payment, [0], key)).status).toBe(201);
    return { key, description: payment.description };
  }

  /** Mails follow their payments, each with a record of its own. */
  const allMailed = (): Promise<void> => until(async () => (await shop.count('select from pending_mails')) === 0);

  it('the tables that the shop has made are current, and all is well', async () => {
    expect(await told('status')).toMatchObject({ current: true, migrations: { pending: [] }, records: { lost: 0, open: 0 }, advice: [] });
    expect((await command('status')).stdout).toMatch(/^Tables +current$[^]*All is well/m);
  });

  it('a payment counts as one record beside that of its mail, whatever was lost of it', async () => {
    await allMailed();
    const { completed } = (await told('stats')) as { completed: number };
    await paid();
    await allMailed();
    expect(await told('stats')).toMatchObject({ completed: completed + 2, running: 0, lost: 0, open: 0, sealed: 0 });
  });

  it('a payment is shown with its step, and without what the customer was told', async () => {
    const { key, description } = await paid();
    expect(await told('show', ALICE, key)).toMatchObject({
      state: 'completed',
      scope: ALICE,
      key,
      attempt: 1,
      status: 201,
      steps: ['charge'],
    });
    const { stdout } = await command('show', ALICE, key);
    expect(stdout).toMatch(/^State +completed$[^]*^Steps +charge$/m);
    expect(stdout).not.toContain(description);
    expect((await command('show', ALICE, key, '--body')).stdout).toContain(description);
    expect((await command('show', 'id=bob', key)).code).toBe(3);
  });

  it('a key that is forgotten is free for another order', async () => {
    const [key, item] = [randomUUID(), `A cup ${randomUUID()}`];
    const order = { key, body: { item, quantity: 1 } };
    await shop.ask('POST', '/orders', order);
    expect(isReplay(await shop.ask('POST', '/orders', order))).toBe(true);
    expect(await told('forget', ALICE, key)).toEqual({ removed: true });
    expect((await command('show', ALICE, key)).code).toBe(3);
    const again = await shop.ask('POST', '/orders', order);
    expect([again.status, isReplay(again), await shop.count('select from orders where item = $1', [item])]).toEqual([201, false, 2]);
  });

  it('what has expired is removed with its steps, and nothing else, also when the shop is closed', async () => {
    const [old, young] = [await paid(), await paid()];
    await stop(shop.process); // it reaps, too
    const past = `statement_timestamp() - interval '1 second'`;
    const [record] = await rows(
      `update idempotency_records set expires_at = ${past}, reap_after = ${past} where key = $1 returning id`,
      old.key,
    );
    expect(await told('reap')).toEqual({ removed: 1 });
    expect((await command('show', ALICE, old.key)).code).toBe(3);
    expect(await rows('select from idempotency_steps where id = $1', (record as { id: unknown }).id)).toEqual([]);
    expect(await told('show', ALICE, young.key)).toMatchObject({ state: 'completed', steps: ['charge'] });
    expect(await tracesOf(old.description)).toMatchObject({ provider: [{}], payments: [{}] });
  });
});
