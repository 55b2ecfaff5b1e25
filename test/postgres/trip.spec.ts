/** The last trip of a transaction: what it carries, what it stops at, and what it leaves on the application's connection. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Pool, type PoolClient, type PoolConfig } from 'pg';
import type { Claim, Ownership } from '../../lib/contract/record.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { migrate } from '../support/database.js';
import { aClaim, anAnswer, HOUR, IN_TIME, openBench, owned, type Bench } from './store-fixture.js';
import {
  answering,
  begun,
  makeLedger,
  notes,
  nothingIsLent,
  releasing,
  sealing,
  promptly,
  PROMPT_SHOPS,
  SHOPS,
  type Shop,
} from './transaction-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await makeLedger(bench);
  await bench.pool.query(`
    create function never() returns trigger language plpgsql as $$ begin perform 1 / 0; return null; end $$;
    create table doomed (id int);
    create constraint trigger never after insert on doomed deferrable initially deferred for each row execute function never()`);
});
beforeEach(() => bench.pool.query('truncate ledger'));
afterAll(() => bench.close());

describe.each([...SHOPS, ...PROMPT_SHOPS])('the last trip (%s)', (_, open) => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await open(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  const answerOf = async (claim: Claim) => {
    const result = await shop.store.claim(aClaim(claim.identity), IN_TIME);
    return result.kind === 'found' && result.record.state === 'completed' ? result.record.answer : undefined;
  };

  it.each([
    ['every byte there is', anAnswer({ body: Buffer.from(Array.from({ length: 256 }, (_byte, i) => i)) })],
    ['no byte', anAnswer({ body: Buffer.alloc(0) })],
    ['two megabytes', anAnswer({ body: Buffer.alloc(2 * 1024 * 1024, 'ü$1\\x00\'"') })],
    [
      'quotes, backslashes and all of Unicode in its headers',
      anAnswer({
        headers: [
          ['content-disposition', `attachment; filename="O'Brien \\ \\x41 $1 \u{1f4b6}"`],
          ['link', ['</a>; rel="a"', `</b>; title='ü'`]],
        ],
      }),
    ],
  ])('keeps an answer with %s, committed and undone', async (_what, answer) => {
    const [kept, alone] = [await owned(shop.store), await owned(shop.store)];
    expect(await (await begun(shop.store, kept)).commit(answering(kept, answer))).toEqual({ kind: 'committed' });
    expect(await (await begun(shop.store, alone)).undo(answering(alone, answer))).toEqual({ kind: 'committed' });
    for (const claim of [kept, alone]) {
      const { body, ...rest } = (await answerOf(claim))!;
      expect([rest, body.equals(answer.body)]).toEqual([{ status: answer.status, headers: answer.headers }, true]);
    }
  });

  it.each([
    ['an answer', (claim: Ownership) => answering(claim)],
    ['a seal', (claim: Ownership) => sealing(claim, 200)],
  ])('commits nothing where %s finds no record of its owner, and says so', async (_what, last) => {
    for (const theft of ['delete from idempotency_records', 'update idempotency_records set owner = gen_random_uuid()']) {
      const claim = await owned(shop.store);
      const transaction = await begun(shop.store, claim);
      await shop.write(transaction, 'charged');
      await shop.query(transaction, `${theft} where id = '${claim.id}'`); // nobody else could: the row is held
      expect(await transaction.commit(last(claim))).toEqual({ kind: 'superseded' });
      expect(await notes(bench)).toEqual([]);
      expect(await shop.store.find(claim.identity)).toMatchObject({ state: 'running' }); // the theft is undone as well
    }
  });

  it('undoes, and says so where the record is somebody else’s by then', async () => {
    for (const last of [answering, sealing, releasing]) {
      const claim = await owned(shop.store);
      const transaction = await begun(shop.store, claim);
      await shop.write(transaction, 'charged');
      expect(await transaction.undo(last({ ...claim, owner: aClaim().owner }))).toEqual({ kind: 'superseded' });
      expect(await notes(bench)).toEqual([]);
      expect(await shop.store.find(claim.identity)).toMatchObject({ state: 'running' });
    }
  });

  it('takes no error of the application’s for a lost record, though it looks like one', async () => {
    const claim = await owned(shop.store);
    const atCommit = await begun(shop.store, claim);
    await shop.query(atCommit, 'insert into doomed values (1)');
    expect(await atCommit.commit(answering(claim))).toMatchObject({ kind: 'refused', transient: false, cause: { code: '22012' } });
    const before = await begun(shop.store, claim);
    await shop.query(before, 'select 1/0').catch(() => undefined);
    expect(await before.commit(answering(claim))).toMatchObject({ kind: 'refused', transient: false, cause: { code: '22012' } });
    expect(await shop.store.find(claim.identity)).toMatchObject({ state: 'running' });
  });

  it('of what had failed before undoes it all the same', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    await shop.query(transaction, 'select 1/0').catch(() => undefined);
    expect(await transaction.undo(answering(claim))).toEqual({ kind: 'committed' });
    expect([await notes(bench), (await shop.store.find(claim.identity))?.state]).toEqual([[], 'completed']);
  });
});

/** A pool of one connection, so that what one transaction leaves there the next one meets. */
describe.each([
  ['before the handler', (store: PostgresStore) => store],
  ['with its first statement', promptly<PostgresStore>],
])('the application’s connection, on which transactions begin %s', (_, beginning) => {
  const prepared = async (pool: Pool): Promise<string[]> => {
    const { rows } = await pool.query<{ name: string }>('select name from pg_prepared_statements order by name');
    return rows.map(({ name }) => name);
  };

  async function withPool(
    work: (pool: Pool, store: PostgresStore) => Promise<void>,
    options: Partial<Parameters<Bench['store']>[0]> = {},
    config: PoolConfig = {},
  ) {
    const pool = new Pool({ connectionString: bench.url, max: 1, ...config });
    try {
      await work(pool, beginning(bench.store({ application: { pool }, ...options })));
    } finally {
      await pool.end();
    }
  }

  async function charge(store: PostgresStore): Promise<void> {
    const claim = await owned(store);
    const transaction = await begun(store, claim);
    await transaction.client.query('insert into ledger (note) values ($1)', ['charged']);
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect((await store.find(claim.identity))?.state).toBe('completed');
  }

  const OURS = ['idempotency_begin', 'idempotency_commit', 'idempotency_complete_or_fail', 'idempotency_hold_or_fail'];

  it('keeps what was prepared on it, once', () =>
    withPool(async (pool, store) => {
      await charge(store);
      await charge(store);
      expect(await prepared(pool)).toEqual(OURS);
    }));

  it('keeps nothing where a pooler can’t', () =>
    withPool(
      async (pool, store) => {
        await charge(store);
        expect(await prepared(pool)).toEqual([]);
      },
      { preparedStatements: false },
    ));

  it.each(['deallocate all', 'discard all'])('may forget it by %s', (forget) =>
    withPool(async (pool, store) => {
      await charge(store);
      await pool.query(forget);
      await charge(store);
      expect(await prepared(pool)).toEqual(OURS);
    }),
  );

  it('may have it prepared by a trip that failed', () =>
    withPool(async (pool, store) => {
      const claim = await owned(store);
      const lost = await begun(store, claim);
      await lost.client.query('delete from idempotency_records where id = $1', [claim.id]);
      expect(await lost.commit(answering(claim))).toEqual({ kind: 'superseded' });
      expect(await prepared(pool)).toContain('idempotency_complete_or_fail');
      await charge(store);
    }));

  it('serves modules with different schemas', async () => {
    await migrate(bench, 'other shop');
    await withPool(async (pool, store) => {
      const other = bench.store({ application: { pool }, schema: 'other shop' });
      for (let i = 0; i < 2; i += 1) {
        await charge(store);
        await charge(other);
      }
      expect(await prepared(pool)).toEqual(OURS);
    });
  });

  it.each<[string, PoolConfig]>([
    ['that pipelines by itself', { pipeline: true } as PoolConfig],
    ['whose driver has a time limit of its own', { query_timeout: IN_TIME }],
    ['that reads the binary format', { binary: true } as PoolConfig],
  ])('may be one %s', (_what, config) => withPool((_pool, store) => endInAllWays(store), {}, config));

  /** As one that `pg-native` makes: it knows none of the driver's inside. */
  it('may be one of another driver', () =>
    withPool(async (pool) => {
      const bare = (client: PoolClient): PoolClient =>
        new Proxy(client, {
          get: (target, property) => {
            if (property === 'connection') return undefined;
            const value: unknown = Reflect.get(target, property, target);
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
      const strange = { connect: async () => bare(await pool.connect()) } as Pool;
      await endInAllWays(beginning(bench.store({ application: { pool: strange } })));
    }));

  async function endInAllWays(store: PostgresStore): Promise<void> {
    for (let i = 0; i < 2; i += 1) await charge(store);
    const [undone, lost] = [await owned(store), await owned(store)];
    expect(await (await begun(store, undone)).undo(answering(undone, anAnswer({ status: 409 })))).toEqual({ kind: 'committed' });
    const transaction = await begun(store, lost);
    await transaction.client.query('insert into ledger (note) values ($1)', ['lost']);
    await transaction.client.query('update idempotency_records set owner = gen_random_uuid() where id = $1', [lost.id]);
    expect(await transaction.commit(answering(lost))).toEqual({ kind: 'superseded' });
    await charge(store);
    expect(await notes(bench)).toEqual(['charged', 'charged', 'charged']);
    expect(await store.release(lost, HOUR, IN_TIME)).toBe('freed');
  }
});
