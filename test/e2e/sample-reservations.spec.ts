import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { runToExit } from '../support/app-process.js';
import { openSampleShop } from '../support/sample-shop.js';
import type { Asked, SampleShop } from '../support/sample-shop.js';
import { codeOf, isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts applications

interface Reservation {
  readonly reference: string;
  readonly state: string;
}

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop({ RESERVATION_TTL: '90s' });
});

afterAll(async () => {
  await shop.close();
});

async function stockUp(available: number): Promise<string> {
  const item = `A vase ${randomUUID()}`;
  await shop.database.pool.query('insert into stock (item, available) values ($1, $2)', [item, available]);
  return item;
}

const reserve = (item: string, quantity = 1, asked: Asked = {}): Promise<Answer> =>
  shop.ask('POST', '/reservations', { key: randomUUID(), body: { item, quantity }, ...asked });

async function reserved(item: string, quantity = 1): Promise<string> {
  const answer = await reserve(item, quantity);
  expect(answer.status).toBe(201);
  return (json(answer) as Reservation).reference;
}

const decide = (reference: string, decision: 'commit' | 'cancel', asked: Asked = {}): Promise<Answer> =>
  shop.ask('POST', `/reservations/${reference}/${decision}`, asked);

/** As time would. */
async function letExpire(references: readonly string[]): Promise<void> {
  await shop.database.pool.query('update reservations set expires_at = statement_timestamp() where reference = any($1)', [references]);
}

/** What is on the shelf, and what is in which state. */
async function booksOf(item: string): Promise<Record<string, number>> {
  const { rows } = await shop.database.pool.query<{ state: string; quantity: number }>(
    `select 'available' as state, available as quantity from stock where item = $1
     union all
     select state, sum(quantity)::int from reservations where item = $1 group by state`,
    [item],
  );
  return Object.fromEntries(rows.map(({ state, quantity }) => [state, quantity]));
}

const statusesOf = (answers: readonly Answer[]): number[] => answers.map(({ status }) => status).sort((one, other) => one - other);
const times = <T>(count: number, work: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: count }, work));

describe('a reservation', () => {
  it('takes from the shelf once, however often it is sent', async () => {
    const item = await stockUp(10);
    const key = randomUUID();
    const [first, second] = [await reserve(item, 3, { key }), await reserve(item, 3, { key })];
    expect([first.status, second.status, isReplay(second)]).toEqual([201, 201, true]);
    expect(json(first)).toMatchObject({ item, quantity: 3, state: 'reserved', userId: 'alice' });
    expect(second.text).toBe(first.text);
    expect(await booksOf(item)).toEqual({ available: 7, reserved: 3 });
    expect(json(await shop.ask('GET', '/reservations'))).toContainEqual(json(first));
  });

  it('takes from the shelf once when it is sent twenty times at once', async () => {
    const item = await stockUp(10);
    const key = randomUUID();
    const answers = await times(20, () => reserve(item, 3, { key }));
    const others = answers.filter(({ status }) => status !== 201);
    expect(others.length).toBeLessThan(20);
    for (const other of others) expect([other.status, codeOf(other)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
    expect(await booksOf(item)).toEqual({ available: 7, reserved: 3 });
  });

  it('never takes more than there is, also in a storm', async () => {
    const item = await stockUp(25);
    const answers = await times(60, () => reserve(item));
    expect(statusesOf(answers)).toEqual([...Array<number>(25).fill(201), ...Array<number>(35).fill(409)]);
    expect(await booksOf(item)).toEqual({ available: 0, reserved: 25 });
  });

  it('that was refused stays refused under its key, also when the stock is back', async () => {
    const item = await stockUp(1);
    const reference = await reserved(item);
    const key = randomUUID();
    const refused = await reserve(item, 1, { key });
    await decide(reference, 'cancel');
    const again = await reserve(item, 1, { key });
    expect([refused.status, again.status, isReplay(again)]).toEqual([409, 409, true]);
    expect(again.text).toBe(refused.text);
    expect((await reserve(item)).status).toBe(201);
  });

  it('expires when the setting says, on the clock of the database', async () => {
    const reference = await reserved(await stockUp(1));
    const within = `expires_at - created_at between interval '90s' and interval '120s'`;
    expect(await shop.count(`select from reservations where reference = $1 and ${within}`, [reference])).toBe(1);
  });

  it('needs a key', async () => {
    const item = await stockUp(1);
    const answer = await shop.ask('POST', '/reservations', { body: { item, quantity: 1 } });
    expect([answer.status, codeOf(answer)]).toEqual([400, 'IDEMPOTENCY_KEY_REQUIRED']);
  });
});

describe('a commit', () => {
  it('answers the same twice, and also when nothing is left of the first answer', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    const [first, second] = [await decide(reference, 'commit'), await decide(reference, 'commit')];
    await shop.database.pool.query('delete from idempotency_records where key = $1', [reference]);
    const third = await decide(reference, 'commit');
    expect(statusesOf([first, second, third])).toEqual([200, 200, 200]);
    expect([isReplay(first), isReplay(second), isReplay(third)]).toEqual([false, true, false]);
    expect(json(first)).toMatchObject({ reference, state: 'committed' });
    expect([second.text, third.text]).toEqual([first.text, first.text]);
    expect(await booksOf(item)).toEqual({ available: 6, committed: 4 });
  });

  it('answers the same to twenty that come at once', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    const answers = await times(20, () => decide(reference, 'commit'));
    expect(statusesOf(answers)).toEqual(Array(20).fill(200));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await booksOf(item)).toEqual({ available: 6, committed: 4 });
  });

  it('of an expired reservation is refused for good with 410, and gives its stock back once', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    await letExpire([reference]);
    const answers = await times(5, () => decide(reference, 'commit'));
    expect(statusesOf(answers)).toEqual(Array(5).fill(410));
    expect(await booksOf(item)).toEqual({ available: 10, expired: 4 });
    expect((await decide(reference, 'commit')).status).toBe(410);
    expect((await decide(reference, 'cancel')).status).toBe(410);
    expect(await booksOf(item)).toEqual({ available: 10, expired: 4 });
  });

  it('of a cancelled reservation is refused with 409', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    await decide(reference, 'cancel');
    const answer = await decide(reference, 'commit');
    expect([answer.status, json(answer)]).toEqual([409, expect.objectContaining({ state: 'cancelled' })]);
    expect(await booksOf(item)).toEqual({ available: 10, cancelled: 4 });
  });
});

describe('a cancellation', () => {
  it('gives the stock back once, also when it comes twenty times at once, and again when nothing is left of the answer', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    const answers = await times(20, () => decide(reference, 'cancel'));
    await shop.database.pool.query('delete from idempotency_records where key = $1', [reference]);
    answers.push(await decide(reference, 'cancel'));
    expect(statusesOf(answers)).toEqual(Array(21).fill(200));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await booksOf(item)).toEqual({ available: 10, cancelled: 4 });
  });

  it('of a committed reservation is refused with 409: what is sold stays sold', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    await decide(reference, 'commit');
    const answer = await decide(reference, 'cancel');
    expect([answer.status, json(answer)]).toEqual([409, expect.objectContaining({ state: 'committed' })]);
    expect(await booksOf(item)).toEqual({ available: 6, committed: 4 });
  });

  it('at the same time as a commit: one of the two is done, and both are told which', async () => {
    const item = await stockUp(20);
    for (const reference of await times(20, () => reserved(item))) {
      const answers = await Promise.all([decide(reference, 'commit'), decide(reference, 'cancel')]);
      expect(statusesOf(answers)).toEqual([200, 409]);
      expect(new Set(answers.map((answer) => (json(answer) as Reservation).state)).size).toBe(1);
    }
    const { available, committed = 0, cancelled = 0, ...others } = await booksOf(item);
    expect([available, committed + cancelled, others]).toEqual([cancelled, 20, {}]);
  });
});

describe('expired reservations', () => {
  it('make room for whoever needs the stock', async () => {
    const item = await stockUp(3);
    const references = await times(3, () => reserved(item));
    expect((await reserve(item, 2)).status).toBe(409);
    await letExpire(references);
    expect((await reserve(item, 2)).status).toBe(201);
    expect(await booksOf(item)).toEqual({ available: 1, reserved: 2, expired: 3 });
  });

  it('are on the shelf again for whoever looks at it', async () => {
    const item = await stockUp(3);
    const reference = await reserved(item, 2);
    const shown = async (): Promise<unknown> => json(await shop.ask('GET', '/stock'));
    expect(await shown()).toContainEqual({ item, available: 1 });
    await letExpire([reference]);
    expect(await shown()).toContainEqual({ item, available: 3 });
    expect(json(await shop.ask('GET', '/reservations'))).toContainEqual(expect.objectContaining({ reference, state: 'expired' }));
  });

  it('make room also while one of them is being decided, and nobody waits for that', async () => {
    const item = await stockUp(3);
    const references = await times(3, () => reserved(item));
    await letExpire(references);
    const decider = await shop.database.pool.connect();
    try {
      await decider.query('begin');
      await decider.query('select from reservations where reference = $1 for update', [references[0]]);
      expect((await reserve(item, 3)).status).toBe(409);
      expect((await reserve(item, 2)).status).toBe(201);
    } finally {
      await decider.query('rollback');
      decider.release();
    }
    expect((await reserve(item, 1)).status).toBe(201);
    expect(await booksOf(item)).toEqual({ available: 0, reserved: 3, expired: 3 });
  });

  it('give back once, whoever comes upon them: in a storm of everything, nothing is lost and nothing is made', async () => {
    const items = [await stockUp(12), await stockUp(12)];
    const storms = await Promise.all(items.map(async (item) => ({ item, references: await times(12, () => reserved(item)) })));
    await letExpire(storms.flatMap(({ references }) => references.slice(0, 6)));
    const answers = await Promise.all(
      storms.flatMap(({ item, references }) => [
        ...references.flatMap((reference) => [decide(reference, 'commit'), decide(reference, 'cancel')]),
        ...references.flatMap(() => [reserve(item, 1), reserve(item, 2), shop.ask('GET', '/stock')]),
      ]),
    );
    expect(answers.filter(({ status }) => status >= 500)).toEqual([]);
    for (const item of items) {
      const { available = -1, reserved: held = 0, committed = 0, expired } = await booksOf(item);
      expect([available + held + committed, expired]).toEqual([12, 6]);
      expect(available).toBeGreaterThanOrEqual(0);
    }
  });
});

describe('a reference', () => {
  it('is worth nothing to another customer', async () => {
    const item = await stockUp(10);
    const reference = await reserved(item, 4);
    const answers = [await decide(reference, 'commit', { as: 'bob' }), await decide(reference, 'cancel', { as: 'bob' })];
    expect(statusesOf(answers)).toEqual([404, 404]);
    expect(await booksOf(item)).toEqual({ available: 6, reserved: 4 });
    expect((await decide(reference, 'commit')).status).toBe(200);
  });

  it('that can be none is refused with 400', async () => {
    expect((await decide('reservation-1', 'commit')).status).toBe(400);
  });
});

it('a shop with a time that is none does not open, and says so', async () => {
  const { code, output } = await runToExit('sample-app/main.ts', { DATABASE_URL: shop.database.url, PORT: '0', RESERVATION_TTL: 'ten' });
  expect([code, output]).toEqual([1, expect.stringContaining('RESERVATION_TTL is ten. Give a time such as 30s, 10m or 2h')]);
});
