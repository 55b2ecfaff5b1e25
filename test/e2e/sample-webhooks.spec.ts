/** What becomes of a payment when the provider's events come late, twice, at once and in the wrong order. */
import { createHmac, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { openSampleShop } from '../support/sample-shop.js';
import type { SampleShop } from '../support/sample-shop.js';
import { until } from './support/stage.js';
import { isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts an application

const SECRET = 'a secret that the provider and the shop share';

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop({ WEBHOOK_SECRET: SECRET });
});

afterAll(async () => {
  await shop.close();
});

interface Event {
  readonly id: string;
  readonly type: string;
  readonly chargeId: string;
}

const event = (type: string, chargeId: string): Event => ({ id: `evt_${randomUUID()}`, type: `charge.${type}`, chargeId });

function deliver(sent: Event): Promise<Answer> {
  const body = JSON.stringify(sent);
  const at = Math.floor(Date.now() / 1000);
  const signature = `t=${at},v1=${createHmac('sha256', SECRET).update(`${at}.${body}`).digest('hex')}`;
  return shop.ask('POST', '/webhooks/payments', {
    as: null,
    body,
    headers: { 'content-type': 'application/json', 'provider-signature': signature },
  });
}

async function pay(description = `A lamp ${randomUUID()}`): Promise<{ id: string; chargeId: string; description: string }> {
  const paid = await shop.ask('POST', '/payments', { key: randomUUID(), body: { amount: 4200, card: 'tok_visa', description } });
  expect(paid.status).toBe(201);
  return json(paid) as { id: string; chargeId: string; description: string };
}

/** What the payment is, and what was entered in the ledger for it. */
async function standing(chargeId: string): Promise<{ state: string; entered: string[] }> {
  const { rows } = await shop.database.pool.query<{ state: string; entered: string[] }>(
    `select state, array(select debit from ledger_entries where payment_id = payments.id order by debit) as entered
       from payments where charge_id = $1`,
    [chargeId],
  );
  return rows[0]!;
}

const all = ['bank', 'provider', 'sales'];

describe("events of a payment's life", () => {
  it('take it forward: paid, settled, refunded', async () => {
    const { chargeId } = await pay();
    expect(await standing(chargeId)).toEqual({ state: 'paid', entered: ['provider'] });
    expect((await deliver(event('settled', chargeId))).status).toBe(200);
    expect(await standing(chargeId)).toEqual({ state: 'settled', entered: ['bank', 'provider'] });
    expect((await deliver(event('refunded', chargeId))).status).toBe(200);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });

  it('do not take it back when an older one comes after a newer one; what it tells of is entered all the same', async () => {
    const { chargeId } = await pay();
    const answers = [await deliver(event('refunded', chargeId)), await deliver(event('settled', chargeId))];
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });

  it('end in the newest state when all of them come at once, each several times', async () => {
    const { chargeId } = await pay();
    const [settled, refunded] = [event('settled', chargeId), event('refunded', chargeId)];
    const first = await Promise.all([settled, refunded, settled, refunded, refunded, settled].map(deliver));
    expect(first.every(({ status }) => status === 200 || status === 409)).toBe(true);
    const again = [await deliver(settled), await deliver(refunded)]; // the provider goes on until it hears a 2xx
    expect(again.map(({ status }) => status)).toEqual([200, 200]);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });

  it.each([
    ['refunded', 'settled'],
    ['settled', 'refunded'],
  ])('are compared with what the payment is when their turn comes, not with what was read before: %s, then %s', async (one, other) => {
    const { chargeId } = await pay();
    const holder = await shop.database.pool.connect();
    await holder.query('begin');
    await holder.query('select from payments where charge_id = $1 for no key update', [chargeId]);
    const waiting = (): Promise<number> =>
      shop.count(`select from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query like 'UPDATE "payments"%'`);
    const first = deliver(event(one, chargeId));
    await until(async () => (await waiting()) === 1);
    const second = deliver(event(other, chargeId));
    await until(async () => (await waiting()) === 2);
    await holder.query('commit');
    holder.release();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });

  it('count once, however often they are delivered, also between others', async () => {
    const { chargeId } = await pay();
    const [settled, refunded] = [event('settled', chargeId), event('refunded', chargeId)];
    const answers: Answer[] = [];
    for (const each of [settled, refunded, settled, refunded, settled]) answers.push(await deliver(each));
    expect(answers.map((answer) => [answer.status, isReplay(answer)])).toEqual([
      [200, false],
      [200, false],
      [200, true],
      [200, true],
      [200, true],
    ]);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });

  it('are refused before their payment, leave nothing behind, and succeed when they come again', async () => {
    const chargeId = randomUUID();
    const early = event('settled', chargeId);
    const refusals = [await deliver(early), await deliver(early)];
    expect(refusals.map((answer) => [answer.status, isReplay(answer)])).toEqual([
      [404, false],
      [404, false],
    ]);
    expect(await shop.count('select from idempotency_records where key = $1', [early.id])).toBe(0);

    const { id } = await pay();
    await shop.database.pool.query('update payments set charge_id = $1 where id = $2', [chargeId, id]); // its payment comes at last
    expect((await deliver(early)).status).toBe(200);
    expect(await standing(chargeId)).toEqual({ state: 'settled', entered: ['bank', 'provider'] });
  });

  it('are told apart by their id alone: another delivery may say the rest otherwise', async () => {
    const { chargeId } = await pay();
    const settled = event('settled', chargeId);
    await deliver(settled);
    const again = await deliver({ ...settled, type: 'charge.refunded' });
    expect([again.status, isReplay(again)]).toEqual([200, true]);
    expect((await standing(chargeId)).state).toBe('settled');
  });
});

describe('the button that refunds', () => {
  it('tells of the refund first and of the payout afterwards, and the shop keeps its head', async () => {
    const { chargeId, description } = await pay();
    const press = async (): Promise<unknown[]> => json(await shop.ask('POST', '/provider/refunds', { body: { description } })) as unknown[];
    expect(await press()).toEqual([
      { event: `evt_refunded_${chargeId}`, status: 200, replayed: false },
      { event: `evt_settled_${chargeId}`, status: 200, replayed: false },
    ]);
    expect(await press()).toEqual([
      { event: `evt_refunded_${chargeId}`, status: 200, replayed: true },
      { event: `evt_settled_${chargeId}`, status: 200, replayed: true },
    ]);
    expect(await standing(chargeId)).toEqual({ state: 'refunded', entered: all });
  });
});
