import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { askShop, openSampleShop, startSampleShop, stop } from '../support/sample-shop.js';
import type { Asked, SampleShop } from '../support/sample-shop.js';
import { until } from './support/stage.js';
import { codeOf, isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts applications

interface Row {
  readonly sku: string;
  readonly name: string;
}

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop();
});

afterAll(async () => {
  await shop.close();
});

/** Rows that no other test has; the one at each of the places has a SKU that means something to the supplier. */
function rows(count: number, meaningful: Readonly<Record<number, string>> = {}): Row[] {
  const mark = randomUUID().slice(0, 8).toUpperCase();
  return Array.from({ length: count }, (_, index) => ({
    sku: [meaningful[index], mark, index].filter((part) => part !== undefined).join('-'),
    name: `Product ${index}`,
  }));
}

const send = (products: readonly object[], asked: Asked = {}): Promise<Answer> =>
  shop.ask('POST', '/imports', { key: randomUUID(), body: { products }, ...asked });
const skusOf = (products: readonly Row[]): string[] => products.map(({ sku }) => sku);

/** The SKUs that were imported, each as often as it was. */
async function imported(products: readonly Row[]): Promise<string[]> {
  const text = 'select sku from products where sku = any($1) and price > 0 order by array_position($1, sku)';
  return (await shop.database.pool.query<{ sku: string }>(text, [skusOf(products)])).rows.map(({ sku }) => sku);
}

/** What the supplier was asked and what came of it, batch by batch. */
async function inquiries(products: readonly Row[]): Promise<string[][]> {
  const { rows: asked } = await shop.database.pool.query<{ outcome: string; first: number }>(
    'select outcome, array_position($1, skus[1]) as first from supplier_inquiries where skus[1] = any($1) order by asked_at',
    [skusOf(products)],
  );
  const batches = Array.from({ length: Math.ceil(products.length / 100) }, (_, batch) => batch * 100 + 1);
  return batches.map((batch) => asked.filter(({ first }) => first === batch).map(({ outcome }) => outcome));
}

async function stepsOf(key: string): Promise<string[]> {
  const text = 'select name from idempotency_steps join idempotency_records using (id) where key = $1 order by name';
  return (await shop.database.pool.query<{ name: string }>(text, [key])).rows.map(({ name }) => name);
}

describe('an import', () => {
  it('answers how many rows there were, and imports them once', async () => {
    const products = rows(250);
    const key = randomUUID();
    const [first, second] = [await send(products, { key }), await send(products, { key })];
    expect([first.status, second.status, isReplay(second)]).toEqual([201, 201, true]);
    expect(json(first)).toEqual({ imported: 250 });
    expect(second.text).toBe(first.text);
    expect(await imported(products)).toEqual(skusOf(products));
    expect(await inquiries(products)).toEqual([['quoted'], ['quoted'], ['quoted']]);
    expect(json(await shop.ask('GET', '/products'))).toContainEqual(expect.objectContaining({ ...products[0], userId: 'alice' }));
  });

  it('imports its rows once when it is sent ten times at once', async () => {
    const products = rows(150);
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(products, { key })));
    const others = answers.filter(({ status }) => status !== 201);
    expect(others.length).toBeLessThan(10);
    for (const other of others) expect([other.status, codeOf(other)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
    expect(await imported(products)).toEqual(skusOf(products));
    expect(await inquiries(products)).toEqual([['quoted'], ['quoted']]);
  });

  it('has room for a thousand of the longest rows', async () => {
    const products = rows(1000).map(({ sku }) => ({ sku: sku.padEnd(30, '-'), name: 'n'.repeat(50) }));
    const answer = await send(products);
    expect([answer.status, json(answer)]).toEqual([201, { imported: 1000 }]);
    expect(await imported(products)).toHaveLength(1000);
  });

  it('needs a key', async () => {
    const answer = await shop.ask('POST', '/imports', { body: { products: rows(1) } });
    expect([answer.status, codeOf(answer)]).toEqual([400, 'IDEMPOTENCY_KEY_REQUIRED']);
  });
});

describe('an import that fails in the middle', () => {
  it('keeps the batches before, and the retry goes on behind them', async () => {
    const products = rows(350, { 250: 'DOWN-ONCE' });
    const key = randomUUID();
    const failed = await send(products, { key });
    expect([failed.status, json(failed)]).toEqual([
      502,
      expect.objectContaining({ message: expect.stringContaining('200 rows are imported') }),
    ]);
    expect(await imported(products)).toEqual(skusOf(products.slice(0, 200)));
    expect(await stepsOf(key)).toEqual(['batch 1', 'batch 2', 'prices 1', 'prices 2']);

    const retried = await send(products, { key });
    expect([retried.status, isReplay(retried), json(retried)]).toEqual([201, false, { imported: 350 }]);
    expect(await imported(products)).toEqual(skusOf(products));
    expect(await inquiries(products)).toEqual([['quoted'], ['quoted'], ['unavailable', 'quoted'], ['quoted']]);

    const again = await send(products, { key });
    expect([again.status, isReplay(again), again.text]).toEqual([201, true, retried.text]);
  });

  it('imports nothing twice, however often it fails', async () => {
    const products = rows(150, { 149: 'DOWN' });
    const key = randomUUID();
    for (const _ of Array(3)) expect((await send(products, { key })).status).toBe(502);
    expect(await imported(products)).toEqual(skusOf(products.slice(0, 100)));
    expect(await inquiries(products)).toEqual([['quoted'], Array(3).fill('unavailable')]);
  });

  it('can be gone on with by the same rows only', async () => {
    const products = rows(150, { 149: 'DOWN-ONCE' });
    const key = randomUUID();
    expect((await send(products, { key })).status).toBe(502);
    const other = await send(products.slice(0, 149), { key });
    expect([other.status, codeOf(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    expect((await send(products, { key })).status).toBe(201);
    expect(await imported(products)).toEqual(skusOf(products));
  });

  it('is gone on with by another shop when its own was killed', async () => {
    const products = rows(250, { 150: 'SLOW' });
    const key = randomUUID();
    const asked: Asked = { key, body: { products } };
    const victim = await startSampleShop(shop.database);
    const unheard = askShop(victim, 'POST', '/imports', asked).catch(() => 'nothing');
    await until(async () => (await inquiries(products))[1]?.length === 1);
    victim.kill('SIGKILL');
    await victim.exited;
    expect(await unheard).toBe('nothing');
    expect(await imported(products)).toEqual(skusOf(products.slice(0, 100)));
    await shop.database.pool.query('update idempotency_records set locked_until = statement_timestamp() where key = $1', [key]); // as time would

    const heir = await startSampleShop(shop.database);
    const retried = await askShop(heir, 'POST', '/imports', asked);
    await stop(heir);
    expect([retried.status, json(retried)]).toEqual([201, { imported: 250 }]);
    expect(await imported(products)).toEqual(skusOf(products));
    expect(await inquiries(products)).toEqual([['quoted'], ['quoted', 'repeated'], ['quoted']]); // the second batch is billed once
  });
});

describe('rows that are no good', () => {
  it('are refused before anything is written, and that is kept: the same rows do not become better', async () => {
    const products = rows(150);
    const bad = [...products, products[3], products[120]].flatMap((row) => row ?? []);
    const key = randomUUID();
    const [first, second] = [await send(bad, { key }), await send(bad, { key })];
    expect([first.status, second.status, isReplay(second)]).toEqual([422, 422, true]);
    expect(json(first)).toMatchObject({ message: 'Rows 151, 152 repeat the SKU of a row before them.' });
    expect(await imported(products)).toEqual([]);
    expect(await inquiries(products)).toEqual([[], []]);
  });

  it('do not use up a key when they are none at all', async () => {
    const products = rows(2);
    const key = randomUUID();
    const none = [
      [],
      [...products, { sku: 'no capitals', name: 'A lamp' }],
      [...products, { sku: 'A-1' }],
      [...products, 'A-1'],
      rows(1001),
    ];
    for (const bad of none) expect((await send(bad as object[], { key })).status).toBe(400);
    expect((await send(products, { key })).status).toBe(201);
  });
});
