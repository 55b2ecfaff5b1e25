import { describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { PreconditionFailed, RecipeMisused, updateVersioned } from '../../lib/index.js';
import type { VersionCondition } from '../../lib/index.js';
import { barrier } from '../support/barrier.js';
import { Author, Counter, Document, blocked, openTransaction, recipeTables } from './recipes-fixture.js';

const tables = recipeTables();

async function document(values: Partial<Document> = {}): Promise<string> {
  const made = tables.manager().create(Document, { title: 'Tide tables', format: { width: 10, height: null }, ...values });
  return (await tables.manager().save(made)).id;
}

const read = (id: string): Promise<Document> => tables.manager().findOneByOrFail(Document, { id });

const update = (id: string, condition: VersionCondition, changes: object = { note: 'seen' }): Promise<number> =>
  updateVersioned(tables.manager(), Document, { id }, condition, changes);

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('updateVersioned', () => {
  it('changes the version that was seen, and says the new one', async () => {
    const id = await document();
    expect(await update(id, 1, { title: 'Charts' })).toBe(2);
    expect(await update(id, 2, { title: 'Lists of lights' })).toBe(3);
    expect(await read(id)).toMatchObject({ title: 'Lists of lights', version: 3 });
  });

  it('changes nothing in another version, and says so by 412', async () => {
    const id = await document();
    await update(id, 1);
    const refusal = await rejection(update(id, 1, { title: 'Charts' }));
    expect(refusal).toBeInstanceOf(PreconditionFailed);
    expect(refusal).toMatchObject({ code: 'PRECONDITION_FAILED', status: 412 });
    expect(await read(id)).toMatchObject({ title: 'Tide tables', version: 2 });
  });

  it.each<[string, VersionCondition, boolean]>([
    ['one of a list', [7, 2, 9], true],
    ['none of a list', [1, 3], false],
    ['any', '*', true],
    ['nothing', [], false],
    ['more than the column can hold', Number.MAX_SAFE_INTEGER, false],
    ['more than the column can hold, in a list', [2, Number.MAX_SAFE_INTEGER], true],
    ['less than nothing', -1, false],
  ])('takes %s as a condition', async (_, condition, holds) => {
    const id = await document();
    await update(id, 1);
    if (holds) expect(await update(id, condition)).toBe(3);
    else expect(await rejection(update(id, condition))).toMatchObject({ code: 'PRECONDITION_FAILED' });
  });

  it.each<[string, VersionCondition]>([
    ['a version', 1],
    ['any', '*'],
  ])('finds %s of no row, as RFC 9110 has it', async (_, condition) => {
    expect(await rejection(update(randomUUID(), condition))).toMatchObject({ code: 'PRECONDITION_FAILED' });
  });

  it('loses neither of two editors who started from the same version', async () => {
    const id = await document();
    const gate = barrier(2);
    const edit = async (changes: object): Promise<unknown> => {
      const { version } = await read(id);
      await gate.arrive();
      return rejection(update(id, version, changes));
    };
    const outcomes = await Promise.all([edit({ title: 'Charts' }), edit({ note: 'seen' })]);
    expect(outcomes.filter((outcome) => outcome instanceof PreconditionFailed)).toHaveLength(1);
    expect((await read(id)).version).toBe(2);
  });

  it('counts every one of twenty changes by editors who begin again when they are refused', async () => {
    const id = await document({ tags: [] });
    const gate = barrier(20);
    const edit = async (tag: string): Promise<void> => {
      await gate.arrive();
      for (;;) {
        const { version, tags } = await read(id);
        if (!((await rejection(update(id, version, { tags: [...tags, tag] }))) instanceof PreconditionFailed)) return;
      }
    };
    const all = Array.from({ length: 20 }, (_, index) => String(index));
    await Promise.all(all.map(edit));
    const { tags, version } = await read(id);
    expect([...tags].sort()).toEqual([...all].sort());
    expect(version).toBe(21);
  }, 20_000);

  it('waits for a transaction that is changing the row, and goes by what that leaves', async () => {
    const id = await document();
    const other = await openTransaction(tables.dataSource());
    await updateVersioned(other.manager, Document, { id }, 1, { title: 'Charts' });
    const late = rejection(update(id, 1));
    await blocked(tables.database());
    await other.commit();
    expect(await late).toBeInstanceOf(PreconditionFailed);
  });

  it('leaves the caller’s transaction alive when it refuses', async () => {
    const id = await document();
    await tables.dataSource().transaction(async (manager) => {
      expect(await rejection(updateVersioned(manager, Document, { id }, 9, { note: 'a' }))).toBeInstanceOf(PreconditionFailed);
      expect(await updateVersioned(manager, Document, { id }, 1, { note: 'b' })).toBe(2);
    });
    expect((await read(id)).note).toBe('b');
  });

  it('meets a change that its snapshot can’t see by the serialization failure it is', async () => {
    const id = await document();
    const snapshot = await openTransaction(tables.dataSource(), 'REPEATABLE READ');
    await snapshot.manager.findOneBy(Document, { id });
    await update(id, 1);
    expect(await rejection(updateVersioned(snapshot.manager, Document, { id }, 1, { note: 'a' }))).toMatchObject({
      driverError: { code: '40001' },
    });
    await snapshot.rollBack();
  });

  it('keeps the date of the last change up', async () => {
    const id = await document();
    const { updatedAt } = await read(id);
    await update(id, 1);
    expect((await read(id)).updatedAt.getTime()).toBeGreaterThan(updatedAt.getTime());
  });

  it('writes to columns of other names, in embedded objects, and behind transformers and relations', async () => {
    await tables.manager().save(Author, { name: 'Grace' });
    const id = await document();
    const changes = { title: 'Charts', format: { height: 3 }, price: 99, author: { name: 'Grace' }, meta: { colours: ['red'] } };
    await update(id, 1, changes);
    const after = await tables.manager().findOneOrFail(Document, { where: { id }, relations: { author: true } });
    expect(after).toMatchObject({ ...changes, format: { width: 10, height: 3 } });
  });

  it('leaves what is undefined as it is, and with no changes only counts', async () => {
    const id = await document({ note: 'a', format: { width: 1, height: 2 } });
    expect(await update(id, 1, { title: 'Charts', note: undefined, format: { width: 3, height: undefined } })).toBe(2);
    expect(await update(id, 2, {})).toBe(3);
    expect(await update(id, 3, { note: undefined, format: { width: undefined } })).toBe(4);
    expect(await read(id)).toMatchObject({ title: 'Charts', note: 'a', format: { width: 3, height: 2 }, version: 4 });
  });

  it('narrows the row, as by its owner', async () => {
    const id = await document({ note: 'mine' });
    expect(await rejection(updateVersioned(tables.manager(), Document, { id, note: 'yours' }, 1, { title: 'Charts' }))).toMatchObject({
      code: 'PRECONDITION_FAILED',
    });
    expect(await updateVersioned(tables.manager(), Document, { id, note: 'mine' }, 1, { title: 'Charts' })).toBe(2);
  });

  it('holds a row that is marked as deleted for gone', async () => {
    const id = await document({ deletedAt: new Date() });
    expect(await rejection(update(id, '*'))).toBeInstanceOf(PreconditionFailed);
  });

  it('counts in the column it is told, from nothing if need be', async () => {
    const name = randomUUID();
    await tables.manager().insert(Counter, { name, value: 1 });
    const change = (condition: VersionCondition): Promise<number> =>
      updateVersioned(tables.manager(), Counter, { name }, condition, { value: 2 }, { column: 'changes' });
    expect(await change('*')).toBe(1);
    expect(await change(1)).toBe(2);
    expect(await rejection(change(1))).toBeInstanceOf(PreconditionFailed);
    const later = 2 ** 40;
    await tables.manager().update(Counter, { name }, { changes: String(later) });
    expect(await change([1, later])).toBe(later + 1);
  });

  describe('refuses, and says what to do', () => {
    const id = randomUUID();
    const call = (where: object, condition: unknown, changes: object, column?: string): Promise<number> =>
      updateVersioned<object>(tables.manager(), Document, where, condition as VersionCondition, changes, { column: column as never });

    it.each<[string, () => Promise<unknown>, RegExp]>([
      ['an empty where', () => call({}, 1, { note: 'a' }), /where may fit several/],
      ['undefined in where', () => call({ id: undefined }, 1, { note: 'a' }), /undefined as where\.id/],
      ['an unknown column', () => call({ id }, 1, { nte: 'a' }), /no column of Document for changes\.nte/],
      ['the version in changes', () => call({ id }, 1, { version: 3 }), /counts version itself/],
      ['no condition', () => call({ id }, undefined, { note: 'a' }), /as its condition.*@ExpectedVersion/],
      ['a condition that is no version', () => call({ id }, '1', { note: 'a' }), /as its condition/],
      ['a fraction', () => call({ id }, [1, 1.5], { note: 'a' }), /as its condition/],
      ['a column that does not count', () => call({ id }, 1, { title: 'a' }, 'note'), /note is none.*integer column/],
      ['a column that is not there', () => call({ id }, 1, { title: 'a' }, 'nte'), /no column of Document named nte/],
      [
        'an entity without versions',
        () => updateVersioned(tables.manager(), Counter, { name: 'a' }, 1, { value: 2 }),
        /no @VersionColumn in Counter.*\{ column \}/,
      ],
    ])('%s', async (_, attempt, message) => {
      const refusal = await rejection(attempt());
      expect(refusal).toBeInstanceOf(RecipeMisused);
      expect((refusal as Error).message).toMatch(message);
      expect((refusal as Error).message).toMatch(/^updateVersioned /);
    });
  });
});
