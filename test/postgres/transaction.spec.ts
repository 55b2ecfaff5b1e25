/** The application's transactions while nothing breaks: what is committed, what is undone, and who may use them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Claim } from '../../lib/contract/record.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { barrier } from '../support/barrier.js';
import { aClaim, anAnswer, HOUR, IN_TIME, openBench, owned, type Bench } from './store-fixture.js';
import {
  answering,
  begun,
  makeLedger,
  managerOf,
  notes,
  nothingIsLent,
  releasing,
  sealing,
  PROMPT_SHOPS,
  settings,
  SHOPS,
  typeormShop,
  type Shop,
} from './transaction-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await makeLedger(bench);
});
beforeEach(() => bench.pool.query('truncate ledger'));
afterAll(() => bench.close());

const misused = { code: 'IDEMPOTENCY_TRANSACTION_MISUSED' };

describe.each([...SHOPS, ...PROMPT_SHOPS])('a transaction (%s)', (_, open) => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await open(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  it('commits business rows and answer together', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    expect([await notes(bench), await shop.store.find(claim.identity)]).toMatchObject([[], { state: 'running' }]);
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect([await notes(bench), await shop.store.find(claim.identity)]).toMatchObject([['charged'], { state: 'completed' }]);
    expect(await shop.store.claim(aClaim(claim.identity), IN_TIME)).toMatchObject({ record: { answer: anAnswer() } });
  });

  it('rolls both back', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    await transaction.write(answering(claim));
    await transaction.rollBack();
    await transaction.rollBack();
    expect([await notes(bench), await shop.store.find(claim.identity)]).toMatchObject([[], { state: 'running' }]);
    expect(await shop.store.release(claim, HOUR, IN_TIME)).toBe('freed');
  });

  it('undoes what the handler did, and keeps the answer', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    await shop.query(transaction, 'select 1/0').catch(() => undefined);
    expect(await transaction.undo(answering(claim, anAnswer({ status: 422 })))).toEqual({ kind: 'committed' });
    expect([await notes(bench), await shop.store.find(claim.identity)]).toMatchObject([[], { state: 'completed', status: 422 }]);
  });

  it('seals, and releases with or without steps', async () => {
    const [sealed, freed, opened] = [await owned(shop.store), await owned(shop.store), await owned(shop.store)];
    await shop.store.recordStep(opened, { name: 'charge', result: Buffer.from('1') }, IN_TIME);
    const ends = [
      [sealed, (t: RecordTransaction) => t.commit(sealing(sealed, 200))],
      [freed, (t: RecordTransaction) => t.undo(releasing(freed))],
      [opened, (t: RecordTransaction) => t.undo(releasing(opened))],
    ] as const;
    for (const [claim, end] of ends) {
      expect(await end(await begun(shop.store, claim))).toEqual({ kind: 'committed' });
    }
    expect(await shop.store.find(sealed.identity)).toMatchObject({ state: 'sealed', status: 200 });
    expect(await shop.store.find(freed.identity)).toBeUndefined();
    expect(await shop.store.find(opened.identity)).toMatchObject({ state: 'open', steps: ['charge'] });
  });

  it('does not begin for a claim that is lost, and gives the connection back', async () => {
    const lost = await owned(shop.store);
    await bench.alter(lost.id, 'owner = gen_random_uuid()');
    for (const isolation of [undefined, 'REPEATABLE READ', 'SERIALIZABLE'] as const) {
      expect(await shop.store.transaction(lost, settings({ isolation }))).toBeUndefined();
    }
    expect(await shop.store.transaction(aClaim(), settings())).toBeUndefined();
  });

  it.each(['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const)(
    'has the isolation that it was asked for (%s), and the idle limit',
    async (isolation) => {
      const transaction = await begun(shop.store, await owned(shop.store), { isolation, idleMs: 12_345 });
      const { rows } = await transaction.client.query(
        `select current_setting('transaction_isolation') as isolation, current_setting('idle_in_transaction_session_timeout') as idle`,
      );
      expect(rows).toEqual([{ isolation: isolation.toLowerCase(), idle: '12345ms' }]);
      await transaction.rollBack();
    },
  );

  it('keeps a statement prepared that has a name, and gives the others none', async () => {
    const transaction = await begun(shop.store, await owned(shop.store));
    const { client } = transaction;
    const text = 'select $1::int as n';
    expect((await client.query({ name: 'kept', text, values: [1] })).rows).toEqual([{ n: 1 }]);
    expect((await client.query({ name: 'kept', text, values: [2] })).rows).toEqual([{ n: 2 }]);
    expect((await client.query({ text: 'select 3 as n' })).rows).toEqual([{ n: 3 }]);
    expect((await client.query(text, [4])).rows).toEqual([{ n: 4 }]);
    const { rows } = await client.query(`select name from pg_prepared_statements where name not like 'idempotency_%'`);
    expect(rows).toEqual([{ name: 'kept' }]);
    await expect(client.query({ name: 'over', text: 'commit' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_MISUSED' });
    await transaction.rollBack();
  });

  it('tells a handler of an error with a stack that leads to whoever has asked', async () => {
    const transaction = await begun(shop.store, await owned(shop.store));
    const askForNothing = async (): Promise<void> => void (await transaction.client.query('select no_such_column'));
    const error = await askForNothing().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: '42703', stack: expect.stringMatching(/no_such_column[^]*at (async )?askForNothing/) });
    await transaction.rollBack();
  });

  it('sends what begins it and what ends it', async () => {
    const sent: string[] = [];
    const store = bench.store({ application: shop.application, onStatement: (name) => sent.push(name) });
    const claim = await owned(store);
    const transaction = await begun(store, claim);
    await transaction.commit(answering(claim));
    expect(sent).toEqual([
      'idempotency_claim',
      'idempotency_begin',
      'idempotency_hold_or_fail',
      'idempotency_complete_or_fail',
      'idempotency_commit',
    ]);
  });

  it('looks again when the row was written to in the instant in which it begins', async () => {
    const claim = await owned(shop.store);
    const writer = await bench.pool.connect();
    await writer.query('begin');
    await writer.query(`update idempotency_records set locked_until = now() + interval '1 h' where id = $1`, [claim.id]);
    const beginning = begun(shop.store, claim, { isolation: 'REPEATABLE READ' });
    await bench.somebodyWaitsForALock();
    await writer.query('commit');
    writer.release();
    const transaction = await beginning;
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
  });

  it('refuses everything from the moment at which it begins to end', async () => {
    const ends = [
      (t: RecordTransaction) => t.commit(),
      (t: RecordTransaction, claim: Claim) => t.commit(answering(claim)),
      (t: RecordTransaction, claim: Claim) => t.undo(answering(claim)),
      (t: RecordTransaction) => t.rollBack(),
    ];
    for (const end of ends) {
      const claim = await owned(shop.store);
      const transaction = await begun(shop.store, claim);
      const ended = end(transaction, claim);
      await expect(shop.write(transaction, 'too late')).rejects.toMatchObject(misused);
      await ended;
      await expect(shop.write(transaction, 'too late')).rejects.toMatchObject(misused);
      await expect(shop.query(transaction, 'select 1')).rejects.toMatchObject(misused);
      await transaction.rollBack();
    }
    expect(await notes(bench)).toEqual([]);
  });

  it('writes nothing of a forgotten await into the next transaction on its connection', async () => {
    const narrow = await open(bench, { size: 1 });
    const first = await begun(narrow.store, await owned(narrow.store));
    await first.commit();
    const claim = await owned(narrow.store);
    const second = await begun(narrow.store, claim);
    await expect(narrow.write(first, 'stray')).rejects.toMatchObject(misused);
    await narrow.write(second, 'mine');
    await second.commit(answering(claim));
    expect(await notes(bench)).toEqual(['mine']);
    await narrow.close();
  });

  it.each(['COMMIT', 'rollback', ' /* done */ commit work', '-- done\nEND;', 'ABORT', 'ROLLBACK AND CHAIN', `prepare transaction 'x'`])(
    'can’t be ended by %s',
    async (text) => {
      const claim = await owned(shop.store);
      const transaction = await begun(shop.store, claim);
      await expect(shop.query(transaction, text)).rejects.toMatchObject(misused);
      expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    },
  );

  it('keeps no answer when it was ended behind its back', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.query(transaction, 'select 1; commit');
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: misused });
    expect(await shop.store.find(claim.identity)).toMatchObject({ state: 'running' });
  });

  it('lets a handler use savepoints of its own', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    for (const text of [
      'savepoint mine',
      `insert into ledger (note) values ('undone')`,
      'rollback to savepoint mine',
      'rollback work to mine',
      'release mine',
    ]) {
      await shop.query(transaction, text);
    }
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual([]);
  });

  it('asks its guard before each use', async () => {
    let within = false;
    const guard = (): void => {
      if (within) throw new Error('Not within a step.');
    };
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim, { guard });
    await shop.write(transaction, 'before');
    within = true;
    await expect(shop.write(transaction, 'within')).rejects.toThrow('Not within a step.');
    await transaction.keepAlive();
    within = false;
    await shop.write(transaction, 'after');
    await transaction.commit(answering(claim));
    expect(await notes(bench)).toEqual(['before', 'after']);
  });

  it('may have parts that are undone by themselves, one in the other', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    const result = await transaction.savepoint(async () => {
      await shop.write(transaction, 'outer');
      const failed = transaction.savepoint(async () => {
        await shop.write(transaction, 'inner');
        await shop.query(transaction, 'select 1/0');
      });
      await expect(failed).rejects.toThrow('division by zero');
      return 'kept';
    });
    expect(result).toBe('kept');
    const swallowed = transaction.savepoint(async () => void (await shop.query(transaction, 'select nonsense').catch(() => undefined)));
    await expect(swallowed).rejects.toMatchObject({ code: '42703' });
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['outer']);
  });

  it('without a record is an ordinary one', async () => {
    const transaction = await begun(shop.store, aClaim(), { holdsRecord: false });
    await shop.write(transaction, 'unkeyed');
    expect(await transaction.commit()).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['unkeyed']);
  });

  it('completes an execution within it as well, which a rollback undoes', async () => {
    const [outer, inner] = [await owned(shop.store), await owned(shop.store)];
    const transaction = await begun(shop.store, outer);
    expect(await transaction.write(answering(inner))).toBe(true);
    expect(await transaction.write(answering(aClaim()))).toBe(false);
    expect(await shop.store.renew([{ ...inner, leaseMs: HOUR }], IN_TIME)).toEqual([inner.id]); // left out, and not lost
    await transaction.rollBack();
    expect(await shop.store.find(inner.identity)).toMatchObject({ state: 'running' });
    expect(await shop.store.release(inner, HOUR, IN_TIME)).toBe('freed');
  });

  it('makes progress as often at once as there are connections, with steps on the module’s own', async () => {
    const size = 4;
    const gate = barrier(size);
    const claims = await Promise.all(Array.from({ length: 3 * size }, () => owned(shop.store)));
    let arrived = 0;
    await Promise.all(
      claims.map(async (claim) => {
        const transaction = await begun(shop.store, claim);
        if ((arrived += 1) <= size) await gate.arrive(); // the first ones hold every connection
        await shop.store.recordStep(claim, { name: 'charge', result: Buffer.from('1') }, IN_TIME);
        await shop.write(transaction, 'charged');
        expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
      }),
    );
    expect(await notes(bench)).toHaveLength(3 * size);
  });

  it('waits for a connection no longer than it may, and gives a late one back', async () => {
    const narrow = await open(bench, { size: 1 });
    const claim = await owned(narrow.store);
    const first = await begun(narrow.store, claim);
    await expect(narrow.store.transaction(await owned(narrow.store), settings({ connectMs: 20 }))).rejects.toMatchObject({
      code: 'IDEMPOTENCY_STORE_UNAVAILABLE',
    });
    await first.rollBack();
    await (await begun(narrow.store, claim)).rollBack();
    expect(narrow.lent()).toBe(0);
    await narrow.close();
  });

  it('is rolled back when the store is closed, and the pool stays the application’s', async () => {
    const passing = bench.store({ application: shop.application });
    const claim = await owned(passing);
    const transaction = await begun(passing, claim);
    await shop.write(transaction, 'charged');
    await passing.close();
    await expect(shop.write(transaction, 'charged')).rejects.toMatchObject(misused);
    expect(await transaction.commit(answering(claim))).toMatchObject({
      kind: 'refused',
      cause: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' },
    });
    expect(await notes(bench)).toEqual([]);
    await (await begun(shop.store, claim)).rollBack();
  });
});

describe('what a caller hands in', () => {
  it('never becomes part of a statement', async () => {
    const { store, close } = await typeormShop(bench);
    const evil = `x'; drop table ledger; --`;
    await expect(store.transaction({ ...aClaim(), owner: evil }, settings())).rejects.toBeInstanceOf(Error);
    await expect(store.transaction({ ...aClaim(), id: evil }, settings())).rejects.toBeInstanceOf(Error);
    await expect(store.transaction(aClaim(), settings({ isolation: evil as never }))).rejects.toBeInstanceOf(Error);
    expect(await notes(bench)).toEqual([]);
    await close();
  });
});

describe('TypeORM’s manager', () => {
  let shop: Awaited<ReturnType<typeof typeormShop>>;
  beforeAll(async () => {
    shop = await typeormShop(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  it('makes a savepoint of a transaction in it, which fails or succeeds by itself', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    const manager = managerOf(transaction);
    await manager.transaction((inner) => inner.getRepository('ledger').save({ note: 'kept' }));
    const failed = manager.transaction(async (inner) => {
      await inner.getRepository('ledger').save({ note: 'undone' });
      await inner.transaction('SERIALIZABLE', async (innermost) => innermost.query('select 1/0'));
    });
    await expect(failed).rejects.toThrow('division by zero');
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['kept']);
  });

  it('can’t be used to end the transaction or to give its connection back', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    const runner = managerOf(transaction).queryRunner!;
    await expect(runner.commitTransaction()).rejects.toMatchObject(misused);
    await expect(runner.rollbackTransaction()).rejects.toMatchObject(misused);
    await expect(runner.release()).rejects.toMatchObject(misused);
    const connection = (await runner.connect()) as { release(): void; end(): void; query(text: string): unknown };
    expect(() => connection.release()).toThrow(expect.objectContaining(misused));
    expect(() => connection.end()).toThrow(expect.objectContaining(misused));
    expect(() => connection.query('commit')).toThrow(expect.objectContaining(misused));
    await runner.startTransaction();
    await runner.commitTransaction();
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
  });

  it('refuses all its ways once that is over', async () => {
    const transaction = await begun(shop.store, await owned(shop.store));
    const manager = managerOf(transaction);
    const runner = manager.queryRunner!;
    const connection = (await runner.connect()) as { query(text: string): unknown };
    const repository = manager.getRepository('ledger');
    const builder = manager.createQueryBuilder('ledger', 'entry');
    await transaction.commit();
    const ways = [
      () => manager.query('select 1'),
      () => manager.save('ledger', { note: 'x' }),
      () => manager.insert('ledger', { note: 'x' }),
      () => manager.find('ledger'),
      () => manager.transaction(async () => undefined),
      () => repository.save({ note: 'x' }),
      () => repository.find(),
      () => repository.delete({ note: 'x' }),
      () => builder.getMany(),
      () => runner.query('select 1'),
      () => runner.stream('select 1'),
      () => runner.startTransaction(),
      () => runner.commitTransaction(),
    ];
    for (const way of ways) await expect(way()).rejects.toMatchObject(misused);
    expect(() => connection.query('select 1')).toThrow(expect.objectContaining(misused));
  });

  it('refuses what was on its way when the transaction began to end', async () => {
    const { dataSource } = shop;
    let arrive!: () => void;
    let go!: () => void;
    const arrived = new Promise<void>((resolve) => (arrive = resolve));
    const gone = new Promise<void>((resolve) => (go = resolve));
    const subscriber = {
      async beforeQuery({ query }: { query: string }) {
        if (!query.includes('stray')) return;
        arrive();
        await gone;
      },
    };
    dataSource.subscribers.push(subscriber);
    const transaction = await begun(shop.store, await owned(shop.store));
    const stray = managerOf(transaction).query(`insert into ledger (note) values ('stray')`);
    await arrived;
    await transaction.commit();
    go();
    await expect(stray).rejects.toMatchObject(misused);
    dataSource.subscribers.splice(dataSource.subscribers.indexOf(subscriber), 1);
    expect(await notes(bench)).toEqual([]);
  });

  it('is back in its first depth after what was undone', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    const runner = managerOf(transaction).queryRunner!;
    await expect(
      transaction.savepoint(async () => {
        await runner.startTransaction(); // and never ended
        throw new Error('undone');
      }),
    ).rejects.toThrow('undone');
    await expect(runner.commitTransaction()).rejects.toMatchObject(misused);
    await transaction.rollBack();
  });
});
