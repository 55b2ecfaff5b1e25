import { describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { InsertUndecided, RecipeMisused, insertOnce } from '../../lib/index.js';
import type { InsertedOnce } from '../../lib/index.js';
import { barrier } from '../support/barrier.js';
import { Author, Counter, Format, Ticket, blocked, openTransaction, recipeTables } from './recipes-fixture.js';

const tables = recipeTables();

const format = { width: 10, height: null };
const ticket = (values: Partial<Ticket> = {}): Partial<Ticket> => ({ buyer: 'ada', reference: randomUUID(), format, ...values });

const insert = (row: Partial<Ticket>, manager = tables.manager()): Promise<InsertedOnce<Ticket>> =>
  insertOnce(manager, Ticket, row, { unique: ['buyer', 'reference'] });

const count = (row: Partial<Ticket>): Promise<number> =>
  tables.manager().count(Ticket, { where: { reference: row.reference! }, withDeleted: true });

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('insertOnce', () => {
  it('inserts what is not there, and hands over the entity as loading it would', async () => {
    const row = ticket({ price: 1250, format: { width: 3, height: 4 } });
    const { row: stored, inserted } = await insert(row);
    expect(inserted).toBe(true);
    expect(stored).toBeInstanceOf(Ticket);
    expect(stored.format).toBeInstanceOf(Format);
    expect(stored).toMatchObject({ ...row, id: expect.any(Number), version: 1, serial: null, createdAt: expect.any(Date) });
    expect(stored).toEqual(await tables.manager().findOneByOrFail(Ticket, { id: stored.id }));
  });

  it('hands over what is there, as it is', async () => {
    const row = ticket({ price: 1250 });
    const first = await insert(row);
    const second = await insert({ ...row, price: 99 });
    expect(second).toEqual({ row: first.row, inserted: false });
    expect(second.row).toBeInstanceOf(Ticket);
    expect(await count(row)).toBe(1);
  });

  it('inserts one of twenty at once, and hands that one over to all', async () => {
    const row = ticket();
    const gate = barrier(20);
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        await gate.arrive();
        return insert({ ...row, seat: 1000 + index });
      }),
    );
    expect(outcomes.filter(({ inserted }) => inserted)).toHaveLength(1);
    expect(new Set(outcomes.map((outcome) => outcome.row.id)).size).toBe(1);
    expect(await count(row)).toBe(1);
  });

  it('waits for a transaction that is inserting the same: its row when it commits', async () => {
    const row = ticket();
    const other = await openTransaction(tables.dataSource());
    const first = await insert(row, other.manager);
    const waiting = insert(row);
    await blocked(tables.database());
    await other.commit();
    expect(await waiting).toEqual({ row: first.row, inserted: false });
  });

  it('waits for a transaction that is inserting the same: its own row when that rolls back', async () => {
    const row = ticket();
    const other = await openTransaction(tables.dataSource());
    await insert(row, other.manager);
    const waiting = insert(row);
    await blocked(tables.database());
    await other.rollBack();
    expect((await waiting).inserted).toBe(true);
    expect(await count(row)).toBe(1);
  });

  it('takes part in the transaction whose manager it is given, and leaves it alive on a conflict', async () => {
    const row = ticket();
    const transaction = await openTransaction(tables.dataSource());
    expect((await insert(row, transaction.manager)).inserted).toBe(true);
    expect((await insert(row, transaction.manager)).inserted).toBe(false);
    expect((await insert(ticket({ reference: row.reference!, buyer: 'grace' }), transaction.manager)).inserted).toBe(true);
    await transaction.rollBack();
    expect(await count(row)).toBe(0);
  });

  describe.each(['REPEATABLE READ', 'SERIALIZABLE'] as const)('under %s', (isolation) => {
    it('meets a row that its snapshot can’t see by the serialization failure it is', async () => {
      const row = ticket();
      const snapshot = await openTransaction(tables.dataSource(), isolation);
      await snapshot.manager.count(Ticket);
      await insert(row);
      expect(await rejection(insert(row, snapshot.manager))).toMatchObject({ driverError: { code: '40001' } });
      await snapshot.rollBack();
    });

    it('finds a row that its snapshot can see', async () => {
      const row = ticket();
      const first = await insert(row);
      const snapshot = await openTransaction(tables.dataSource(), isolation);
      expect(await insert(row, snapshot.manager)).toEqual({ row: first.row, inserted: false });
      await snapshot.commit();
    });
  });

  describe('where the row in the way is gone before it is looked for', () => {
    /** Deletes it behind the back of the first so many inserts. */
    async function deleting(row: Partial<Ticket>, times: number, work: (manager: EntityManager) => Promise<void>): Promise<void> {
      const runner = tables.dataSource().createQueryRunner();
      const query = runner.query.bind(runner) as (...sent: unknown[]) => Promise<never>;
      let left = times;
      runner.query = async (text: string, ...rest: unknown[]) => {
        if (text.startsWith('INSERT') && left > 0) await tables.manager().insert(Ticket, row);
        const result = await query(text, ...rest);
        if (text.startsWith('INSERT') && left-- > 0) await tables.manager().delete(Ticket, { reference: row.reference! });
        return result;
      };
      try {
        await work(runner.manager);
      } finally {
        await runner.release();
      }
    }

    it('tries again', async () => {
      const row = ticket();
      await deleting(row, 2, async (manager) => expect((await insert(row, manager)).inserted).toBe(true));
      expect(await count(row)).toBe(1);
    });

    it('gives up in the end, and says what may be the matter', async () => {
      const row = ticket();
      await deleting(row, 100, async (manager) => {
        const refusal = await rejection(insert(row, manager));
        expect(refusal).toBeInstanceOf(InsertUndecided);
        expect(refusal).toMatchObject({ code: 'IDEMPOTENCY_INSERT_UNDECIDED', status: 503, retryAfter: 1 });
      });
      expect(await count(row)).toBe(0);
    });
  });

  it('hides behind nothing when another unique constraint is violated', async () => {
    await insert(ticket({ serial: 7 }));
    expect(await rejection(insert(ticket({ serial: 7 })))).toMatchObject({ driverError: { code: '23505' } });
  });

  it('finds a row that is marked as deleted: it stands in the way as any other', async () => {
    const row = ticket();
    const { row: first } = await insert(row);
    await tables.manager().softDelete(Ticket, { id: first.id });
    const { row: second, inserted } = await insert(row);
    expect({ inserted, id: second.id, deletedAt: second.deletedAt }).toEqual({
      inserted: false,
      id: first.id,
      deletedAt: expect.any(Date),
    });
  });

  it('goes by a unique index that is limited to some rows, and finds one of those', async () => {
    const take = (row: Partial<Ticket>): Promise<InsertedOnce<Ticket>> => insertOnce(tables.manager(), Ticket, row, { unique: ['seat'] });
    const released = await take(ticket({ seat: 12, released: 'yesterday' }));
    const taken = await take(ticket({ seat: 12 }));
    const late = await take(ticket({ seat: 12, buyer: 'grace' }));
    expect([released.inserted, taken.inserted, late.inserted]).toEqual([true, true, false]);
    expect(late.row.id).toBe(taken.row.id);
    expect((await take(ticket({ seat: 12, released: 'today' }))).inserted).toBe(true);
  });

  it('names the columns of a unique constraint in any order, and a primary key', async () => {
    const row = ticket();
    await insert(row);
    expect((await insertOnce(tables.manager(), Ticket, row, { unique: ['reference', 'buyer'] })).inserted).toBe(false);
    const name = randomUUID();
    const author = (): Promise<InsertedOnce<Author>> => insertOnce(tables.manager(), Author, { name }, { unique: ['name'] });
    expect([(await author()).inserted, (await author()).inserted]).toEqual([true, false]);
  });

  it('takes an entity, a related entity, and undefined for the column’s default', async () => {
    const artist = await tables.manager().save(Author, { name: randomUUID() });
    const row = tables.manager().create(Ticket, ticket({ artist, version: undefined, price: undefined }));
    const { row: stored } = await insert(row);
    const found = await tables.manager().findOneOrFail(Ticket, { where: { id: stored.id }, relations: { artist: true } });
    expect(found).toMatchObject({ artist, price: 0, version: 1 });
  });

  it('takes no value for SQL', async () => {
    const row = ticket({ buyer: `a'); drop table shop.tickets; --`, reference: ':unique_0' });
    await insert(row);
    expect((await insert(row)).row).toMatchObject({ buyer: row.buyer, reference: row.reference });
  });

  it('gives every connection back', async () => {
    const { master } = tables.dataSource().driver as unknown as { master: { totalCount: number; idleCount: number } };
    await insert(ticket());
    await rejection(insertOnce(tables.manager(), Ticket, ticket({ price: 1 }), { unique: ['price'] }));
    expect(master.idleCount).toBe(master.totalCount);
  });

  describe('refuses, and says what to do', () => {
    const call = (row: object, unique: string[], entity: new () => object = Ticket): Promise<unknown> =>
      insertOnce<object>(tables.manager(), entity, row, { unique: unique as never[] });

    it.each<[string, () => Promise<unknown>, RegExp]>([
      ['no unique columns', () => call(ticket(), []), /needs the columns of a unique constraint/],
      ['an unknown unique column', () => call(ticket(), ['refrence']), /no column of Ticket named refrence in unique/],
      ['an unknown column', () => call({ ...ticket(), colour: 'red' }, ['buyer', 'reference']), /no column of Ticket for row\.colour/],
      ['null in a unique column', () => call(ticket({ serial: null }), ['serial']), /needs a value for serial/],
      ['no value for a unique column', () => call({ buyer: 'ada', format }, ['buyer', 'reference']), /needs a value for reference/],
      ['a function', () => call({ ...ticket(), serial: () => '1' }, ['serial']), /row\.serial is a function/],
      ['a generated number', () => call({ ...ticket(), id: 5 }, ['buyer', 'reference']), /can't insert id/],
      ['columns without a unique constraint', () => call(ticket(), ['buyer']), /no unique constraint on Ticket over exactly.*bought_by/],
      ['columns with more than a unique constraint', () => call(ticket({ serial: 3 }), ['buyer', 'reference', 'serial']), /over exactly/],
    ])('%s', async (_, attempt, message) => {
      const refusal = await rejection(attempt());
      expect(refusal).toBeInstanceOf(RecipeMisused);
      expect((refusal as Error).message).toMatch(message);
      expect((refusal as Error).message).toMatch(/^insertOnce /);
    });

    it('a unique constraint that is judged later', async () => {
      await tables.database().pool.query('alter table shop.counters add constraint later unique (counted) deferrable');
      const refusal = await rejection(call({ name: 'a', value: 1 }, ['value'], Counter));
      expect(refusal).toBeInstanceOf(RecipeMisused);
      expect((refusal as Error).message).toMatch(/not deferrable/);
    });
  });
});
