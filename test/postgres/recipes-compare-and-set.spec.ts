import { describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { In, IsNull, MoreThanOrEqual, Raw } from 'typeorm';
import { RecipeMisused, compareAndSet } from '../../lib/index.js';
import { barrier } from '../support/barrier.js';
import { Author, Counter, Document, Title, blocked, openTransaction, recipeTables } from './recipes-fixture.js';

const tables = recipeTables();

async function counter(value = 0): Promise<string> {
  const name = randomUUID();
  await tables.manager().insert(Counter, { name, value });
  return name;
}

async function document(values: Partial<Document> = {}): Promise<string> {
  const made = tables.manager().create(Document, { title: 'Tide tables', format: { width: 10, height: null }, ...values });
  return (await tables.manager().save(made)).id;
}

const valueOf = async (name: string): Promise<number> => (await tables.manager().findOneByOrFail(Counter, { name })).value;
const read = (id: string): Promise<Document> => tables.manager().findOneByOrFail(Document, { id });

describe('compareAndSet', () => {
  it('sets what is as expected, and leaves alone what is not', async () => {
    const name = await counter(5);
    expect(await compareAndSet(tables.manager(), Counter, { name }, { value: 4 }, { value: 9 })).toBe(false);
    expect(await valueOf(name)).toBe(5);
    expect(await compareAndSet(tables.manager(), Counter, { name }, { value: 5 }, { value: 9 })).toBe(true);
    expect(await valueOf(name)).toBe(9);
  });

  it('is false where there is no such row', async () => {
    expect(await compareAndSet(tables.manager(), Counter, { name: 'none' }, { value: 4 }, { value: 9 })).toBe(false);
  });

  it('lets exactly one of twenty win who have read the same', async () => {
    const name = await counter(0);
    const gate = barrier(20);
    const won = await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        await gate.arrive();
        return compareAndSet(tables.manager(), Counter, { name }, { value: 0 }, { value: index + 1 });
      }),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await valueOf(name)).toBe(won.indexOf(true) + 1);
  });

  it('keeps the sum through a hundred transfers at once', async () => {
    const names = await Promise.all(Array.from({ length: 10 }, () => counter(100)));
    const change = async (name: string, by: number): Promise<void> => {
      for (;;) {
        const value = await valueOf(name);
        if (await compareAndSet(tables.manager(), Counter, { name }, { value }, { value: value + by })) return;
      }
    };
    const gate = barrier(100);
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const amount = 1 + (index % 7);
        await gate.arrive();
        await change(names[index % 10]!, -amount);
        await change(names[(index + 1) % 10]!, amount);
      }),
    );
    const values = await Promise.all(names.map(valueOf));
    expect(values.reduce((sum, value) => sum + value)).toBe(1000);
    expect(new Set(values).size).toBeGreaterThan(1);
  }, 30_000);

  it('waits for a transaction that is changing the row, and compares with what that leaves', async () => {
    const name = await counter(1);
    const other = await openTransaction(tables.dataSource());
    await compareAndSet(other.manager, Counter, { name }, { value: 1 }, { value: 2 });
    const late = compareAndSet(tables.manager(), Counter, { name }, { value: 1 }, { value: 3 });
    await blocked(tables.database());
    await other.commit();
    expect(await late).toBe(false);
    expect(await valueOf(name)).toBe(2);
  });

  it('meets a change that its snapshot can’t see by the serialization failure it is', async () => {
    const name = await counter(1);
    const snapshot = await openTransaction(tables.dataSource(), 'REPEATABLE READ');
    await snapshot.manager.findOneBy(Counter, { name });
    await compareAndSet(tables.manager(), Counter, { name }, { value: 1 }, { value: 2 });
    const overtaken = compareAndSet(snapshot.manager, Counter, { name }, { value: 1 }, { value: 3 });
    await expect(overtaken).rejects.toMatchObject({ driverError: { code: '40001' } });
    await snapshot.rollBack();
  });

  it('takes part in the transaction whose manager it is given', async () => {
    const name = await counter(1);
    const transaction = await openTransaction(tables.dataSource());
    expect(await compareAndSet(transaction.manager, Counter, { name }, { value: 1 }, { value: 2 })).toBe(true);
    await transaction.rollBack();
    expect(await valueOf(name)).toBe(1);
  });

  it('holds null to be equal to null, and to nothing else', async () => {
    const id = await document({ note: null });
    expect(await compareAndSet(tables.manager(), Document, { id }, { note: 'a' }, { note: 'b' })).toBe(false);
    expect(await compareAndSet(tables.manager(), Document, { id }, { note: null }, { note: 'a' })).toBe(true);
    expect(await compareAndSet(tables.manager(), Document, { id }, { note: null }, { note: 'b' })).toBe(false);
    expect(await compareAndSet(tables.manager(), Document, { id }, { note: 'a' }, { note: null })).toBe(true);
    expect((await read(id)).note).toBeNull();
  });

  it('finds columns of other names, in embedded objects, behind transformers and relations, of jsonb and of arrays', async () => {
    await tables.manager().save(Author, { name: 'Ada' });
    const id = await document({ price: 1250, author: { name: 'Ada' }, meta: { colours: ['red'] }, tags: ['a', 'b'] });
    const was = { title: 'Tide tables', format: { width: 10, height: null }, price: 1250, author: { name: 'Ada' } };
    const and = { meta: { colours: ['red'] }, tags: ['a', 'b'] };
    const next = { title: 'Charts', format: { height: 7 }, price: 999, author: null, meta: { colours: [] }, tags: ['c'] };
    expect(await compareAndSet(tables.manager(), Document, { id }, { ...was, ...and, price: 1251 }, next)).toBe(false);
    expect(await compareAndSet(tables.manager(), Document, { id }, { ...was, ...and }, next)).toBe(true);
    const document_ = await tables.manager().findOneOrFail(Document, { where: { id }, relations: { author: true } });
    expect(document_).toMatchObject({ ...next, format: { width: 10, height: 7 } });
  });

  it('counts a version on and keeps the date of the last change up', async () => {
    const id = await document();
    const { updatedAt, version } = await read(id);
    await compareAndSet(tables.manager(), Document, { id }, { version }, { title: 'Charts' });
    const after = await read(id);
    expect(after.version).toBe(version + 1);
    expect(after.updatedAt.getTime()).toBeGreaterThan(updatedAt.getTime());
  });

  it('names a row by a unique constraint as well', async () => {
    const shelf = randomUUID();
    await document({ shelf, place: 2 });
    expect(await compareAndSet(tables.manager(), Document, { shelf, place: 2 }, { note: null }, { note: 'seen' })).toBe(true);
  });

  it('narrows the row by TypeORM’s operators', async () => {
    const name = await counter(5);
    const set = (where: object): Promise<boolean> =>
      compareAndSet(tables.manager(), Counter, { name, ...where }, { value: 5 }, { value: 5 });
    expect(await set({ value: MoreThanOrEqual(6) })).toBe(false);
    expect(await set({ value: MoreThanOrEqual(5), changes: IsNull() })).toBe(true);
    expect(await set({ value: Raw((value) => `${value} < extract(epoch from statement_timestamp())`) })).toBe(true);
    const id = await document({ format: { width: 3, height: null } });
    const width = (value: number): Promise<boolean> =>
      compareAndSet(
        tables.manager(),
        Document,
        { id, format: { width: MoreThanOrEqual(value) } } as object,
        { note: null },
        { note: null },
      );
    expect([await width(4), await width(3)]).toEqual([false, true]);
  });

  it('leaves a row alone that is marked as deleted, unless the mark is spoken of', async () => {
    const id = await document({ deletedAt: new Date() });
    expect(await compareAndSet(tables.manager(), Document, { id }, { note: null }, { note: 'a' })).toBe(false);
    const { deletedAt } = await tables.manager().findOneOrFail(Document, { where: { id }, withDeleted: true });
    expect(await compareAndSet(tables.manager(), Document, { id }, { deletedAt }, { deletedAt: null })).toBe(true);
  });

  it('takes no value for SQL', async () => {
    const name = await counter(1);
    const text = `${name}' or '1'='1`;
    expect(await compareAndSet(tables.manager(), Counter, { name: text }, { value: 1 }, { value: 2 })).toBe(false);
    expect(await compareAndSet(tables.manager(), Counter, { name: ':row_0' }, { value: 1 }, { value: 2 })).toBe(false);
    expect(await valueOf(name)).toBe(1);
  });

  describe('refuses, and says what to do', () => {
    const call = (where: object, expected: object, next: object, entity: new () => object = Document): Promise<boolean> =>
      compareAndSet(tables.manager(), entity, where, expected, next);
    const id = randomUUID();

    it.each<[string, () => Promise<unknown>, RegExp]>([
      [
        'an empty where',
        () => call({}, { note: 'a' }, { note: 'b' }),
        /where may fit several.*Give a value for id, or for shelf and place/,
      ],
      ['undefined in where', () => call({ id: undefined }, { note: 'a' }, { note: 'b' }), /undefined as where\.id.*Leave it out/],
      ['a where without a whole key', () => call({ shelf: 'a' }, { note: 'a' }, { note: 'b' }), /may fit several/],
      ['null in a unique constraint', () => call({ shelf: 'a', place: null }, { note: 'a' }, { note: 'b' }), /may fit several/],
      ['an operator as the key', () => call({ id: In([id]) }, { note: 'a' }, { note: 'b' }), /may fit several/],
      ['an unknown column in where', () => call({ id, nme: 'a' }, { note: 'a' }, { note: 'b' }), /no column of Document for where\.nme/],
      ['an unknown column in expected', () => call({ id }, { nte: 'a' }, { note: 'b' }), /no column of Document for expected\.nte/],
      ['an unknown column in next', () => call({ id }, { note: 'a' }, { nte: 'b' }), /no column of Document for next\.nte/],
      ['an unknown embedded column', () => call({ id }, { format: { depth: 1 } }, { note: 'b' }), /expected\.format\.depth/],
      ['a column’s name instead of the property', () => call({ id }, { doc_title: 'a' }, { note: 'b' }), /expected\.doc_title/],
      ['undefined in expected', () => call({ id }, { note: undefined }, { note: 'b' }), /undefined as expected\.note/],
      ['undefined in next', () => call({ id }, { note: 'a' }, { note: undefined }), /undefined as next\.note/],
      ['a related entity without its key', () => call({ id }, { author: {} }, { note: 'b' }), /undefined as expected\.author/],
      ['an operator in expected', () => call({ id }, { note: IsNull() }, { note: 'b' }), /expected\.note is an operator/],
      ['an operator in next', () => call({ id }, { note: 'a' }, { note: IsNull() }), /next\.note is an operator/],
      ['a function in next', () => call({ id }, { note: 'a' }, { note: () => '1' }), /next\.note is a function/],
      ['nothing expected', () => call({ id }, {}, { note: 'b' }), /expect nothing/],
      ['nothing to set', () => call({ id }, { note: 'a' }, {}), /nothing to set/],
      ['a column that is never updated', () => call({ id }, { note: 'a' }, { madeBy: 'b' }), /madeBy.*update: false/],
      ['a view', () => call({ title: 'a' }, { title: 'a' }, { title: 'b' }, Title), /view Title/],
    ])('%s', async (_, attempt, message) => {
      const refusal = await attempt().then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(refusal).toBeInstanceOf(RecipeMisused);
      expect((refusal as Error).message).toMatch(message);
      expect((refusal as Error).message).toMatch(/^compareAndSet /);
    });

    it('keeps values out of its messages', async () => {
      await expect(call({ shelf: 'a secret' }, { note: 'a' }, { note: 'b' })).rejects.toThrow(/^(?!.*a secret)/s);
    });
  });
});
