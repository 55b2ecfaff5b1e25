import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { openSampleShop } from '../support/sample-shop.js';
import type { Asked, SampleShop } from '../support/sample-shop.js';
import { isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts an application

const LAMPS = { item: 'A lamp', quantity: 2 };

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop();
});

afterAll(async () => {
  await shop.close();
});

const inOrder = (answers: readonly Answer[]): number[] => answers.map(({ status }) => status).sort((one, other) => one - other);
const messageOf = (answer: Answer): string => (json(answer) as { message: string }).message;

describe('an order under an id of the client', () => {
  const put = (id: string, body: object = LAMPS, asked: Asked = {}): Promise<Answer> =>
    shop.ask('PUT', `/orders/${id}`, { body, ...asked });
  const ordersOf = (id: string): Promise<number> => shop.count('select from orders where id = $1', [id]);

  it('is created once: 201 the first time, and then 200 with the same order, without any key', async () => {
    const id = randomUUID();
    const first = await put(id);
    const second = await put(id);
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(json(first)).toMatchObject({ id, userId: 'alice', ...LAMPS });
    expect(second.text).toBe(first.text);
    expect(await ordersOf(id)).toBe(1);
    expect(json(await shop.ask('GET', `/orders/${id}`))).toEqual(json(first));
  });

  it('is created by one of twenty that come at once; the others find it', async () => {
    const id = randomUUID();
    const answers = await Promise.all(Array.from({ length: 20 }, () => put(id)));
    expect(inOrder(answers)).toEqual([...Array<number>(19).fill(200), 201]);
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await ordersOf(id)).toBe(1);
  });

  it('is not changed by another order under its id, which is told why', async () => {
    const id = randomUUID();
    await put(id);
    const other = await put(id, { ...LAMPS, quantity: 3 });
    expect(other.status).toBe(409);
    expect(messageOf(other)).toContain(`There is an order ${id} already`);
    expect(json(await put(id))).toMatchObject(LAMPS);
  });

  it('is not to be found by another customer, whatever they send', async () => {
    const id = randomUUID();
    await put(id);
    const answers = [
      await put(id, LAMPS, { as: 'bob' }),
      await put(id, { item: 'A sofa', quantity: 1 }, { as: 'bob' }),
      await shop.ask('GET', `/orders/${id}`, { as: 'bob' }),
      await shop.ask('GET', `/orders/${randomUUID()}`, { as: 'bob' }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404]);
    expect(json(await put(id))).toMatchObject({ userId: 'alice', ...LAMPS });
  });

  it('needs an id that is a UUID, and an order that can be carried out', async () => {
    expect((await put('order-1')).status).toBe(400);
    const id = randomUUID();
    expect((await put(id, { item: 'A lamp', quantity: 0 })).status).toBe(400);
    expect((await put(id)).status).toBe(201);
  });
});

describe("an order's reference", () => {
  const post = (reference: string, asked: Asked = {}): Promise<Answer> =>
    shop.ask('POST', '/orders', { key: randomUUID(), body: { ...LAMPS, reference }, ...asked });
  const ordersOf = (reference: string): Promise<number> => shop.count('select from orders where reference = $1', [reference]);

  it('belongs to one order: a second one under another key is refused, and told which has it', async () => {
    const reference = `R-${randomUUID()}`;
    const first = await post(reference);
    const second = await post(reference);
    expect([first.status, second.status]).toEqual([201, 409]);
    expect(messageOf(second)).toContain(reference);
    expect(messageOf(second)).toContain((json(first) as { id: string }).id);
    expect(await ordersOf(reference)).toBe(1);
  });

  it('is decided by Postgres when twenty ask at once', async () => {
    const reference = `R-${randomUUID()}`;
    const answers = await Promise.all(Array.from({ length: 20 }, () => post(reference)));
    expect(inOrder(answers)).toEqual([201, ...Array<number>(19).fill(409)]);
    expect(await ordersOf(reference)).toBe(1);
  });

  it('does not stand in the way of a retry: the key gets its own answer again, be it yes or no', async () => {
    const reference = `R-${randomUUID()}`;
    const [yes, no] = [randomUUID(), randomUUID()];
    const placed = [await post(reference, { key: yes }), await post(reference, { key: yes })];
    const refused = [await post(reference, { key: no }), await post(reference, { key: no })];
    expect([...placed, ...refused].map((answer) => [answer.status, isReplay(answer)])).toEqual([
      [201, false],
      [201, true],
      [409, false],
      [409, true],
    ]);
    expect(placed[1]?.text).toBe(placed[0]?.text);
  });

  it("is a customer's own: another one may have the same", async () => {
    const reference = `R-${randomUUID()}`;
    expect([(await post(reference)).status, (await post(reference, { as: 'bob' })).status]).toEqual([201, 201]);
  });

  it('may be left out by any number of orders, and is not empty', async () => {
    const bodies = [LAMPS, LAMPS, { ...LAMPS, reference: null }, { ...LAMPS, reference: '' }];
    const answers = await Promise.all(bodies.map((body) => shop.ask('POST', '/orders', { body })));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 400]);
  });
});
