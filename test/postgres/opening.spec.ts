/** A transaction that begins with its handler's first statement: when it does, what goes along, and what becomes of that if it can't begin. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Pool, Query, type PoolClient, type PoolConfig } from 'pg';
import { ExecutionSuperseded } from '../../lib/contract/errors.js';
import { Promptness } from '../../lib/contract/promptness.js';
import type { Claim } from '../../lib/contract/record.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { HOUR, IN_TIME, openBench, owned, type Bench } from './store-fixture.js';
import {
  answering,
  begun,
  makeLedger,
  notes,
  nothingIsLent,
  poolShop,
  PROMPT_SHOPS,
  promptly,
  promptness,
  releasing,
  typeormShop,
  type Shop,
} from './transaction-fixture.js';

const INSERT = 'insert into ledger (note) values ($1)';
const BEGIN = ['idempotency_begin', 'idempotency_hold_or_fail'];

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await makeLedger(bench);
  await bench.pool.query(`
    create sequence ticks;
    create table single (note text unique);
    create function fail(code text) returns void language plpgsql as $$ begin raise exception using errcode = code; end $$;
    create function linger(seconds int) returns void language plpgsql as $$ begin raise notice 'here'; perform pg_sleep(seconds); end $$`);
});
beforeEach(() => bench.pool.query('truncate ledger, single'));
afterAll(() => bench.close());

/** On the one connection that the application has. */
const outside = ({ application }: Shop, text: string): Promise<unknown> =>
  'pool' in application ? application.pool.query(text) : application.dataSource.query(text);

/** Every connection is given back, and in no transaction. */
async function nothingIsLeft(shop: Shop): Promise<void> {
  nothingIsLent(shop);
  await outside(shop, 'select'); // behind whatever is on its way
  const open = `select query from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`;
  expect((await bench.pool.query(open)).rows).toEqual([]);
}

/** After whatever is under way in this turn. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** Of an application that has one. */
async function connectionOf({ application }: Shop): Promise<PoolClient> {
  const pool = 'pool' in application ? application.pool : (application.dataSource.driver as unknown as { master: Pool }).master;
  const client = await pool.connect();
  client.release();
  return client;
}

/** How often it was asked for a number. */
async function ticks(): Promise<number> {
  const { rows } = await bench.pool.query<{ ticks: number }>(
    `select case when is_called then last_value else 0 end::int as ticks from ticks`,
  );
  return rows[0]!.ticks;
}

/** Leaves a trace even if it is rolled back. */
const tick = (transaction: RecordTransaction) => transaction.client.query('select nextval($1)', ['ticks']);

const steal = (claim: Claim) => bench.alter(claim.id, 'owner = gen_random_uuid()');

describe.each(PROMPT_SHOPS)('a transaction whose handler is prompt (%s)', (_, open) => {
  let line: TcpProxy;
  let shop: Shop;
  let claim: Claim;
  beforeAll(async () => {
    line = await startTcpProxy(bench.url);
    shop = await open(bench, { url: line.url, size: 1 });
    await (await begun(shop.store, await owned(shop.store))).rollBack(); // its connection is made
  });
  beforeEach(async () => {
    claim = await owned(shop.store);
  });
  afterEach(() => nothingIsLeft(shop));
  afterAll(async () => {
    await shop.close();
    await line.close();
  });

  const tripsOf = async (work: () => Promise<unknown>) => {
    const before = line.trips.length;
    await work();
    return line.trips.slice(before).map((trip) => trip.map((statement) => statement.trim()));
  };

  it('leaves with its first statement, and holds the record by then', async () => {
    const trips = await tripsOf(async () => {
      const transaction = await begun(shop.store, claim);
      await transaction.client.query(INSERT, ['charged']);
      const row = `select from idempotency_records where id = $1 for update skip locked`;
      expect((await bench.pool.query(row, [claim.id])).rowCount).toBe(0);
      expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    });
    expect(trips).toEqual([
      [...BEGIN, INSERT],
      ['idempotency_complete_or_fail', 'idempotency_commit'],
    ]);
    expect(await notes(bench)).toEqual(['charged']);
  });

  it('leaves alone before what can be several statements', async () => {
    const trips = await tripsOf(async () => {
      const transaction = await begun(shop.store, claim);
      await shop.query(transaction, `insert into ledger (note) values ('one'); insert into ledger (note) values ('two')`);
      await transaction.rollBack();
    });
    expect(trips[0]).toEqual(BEGIN);
    expect(await notes(bench)).toEqual([]);
  });

  it('does not carry a statement out whose record is somebody else’s, and tells the handler', async () => {
    const before = await ticks();
    for (const end of ['commit', 'undo'] as const) {
      const lost = await owned(shop.store);
      await steal(lost);
      const transaction = await begun(shop.store, lost);
      await expect(Promise.all([tick(transaction), tick(transaction)])).rejects.toBeInstanceOf(ExecutionSuperseded);
      await expect(tick(transaction)).rejects.toBeInstanceOf(ExecutionSuperseded);
      expect(await transaction[end](answering(lost))).toEqual({ kind: 'superseded' });
    }
    expect(await ticks()).toBe(before);
  });

  it('tells at its end that its record is somebody else’s, where the handler has sent nothing', async () => {
    await steal(claim);
    expect(await (await begun(shop.store, claim)).commit(answering(claim))).toEqual({ kind: 'superseded' });
  });

  it.each(['REPEATABLE READ', 'SERIALIZABLE'] as const)(
    'carries it out once where the row was written to in that instant (%s)',
    async (isolation) => {
      const before = await ticks();
      const writer = await bench.pool.connect();
      await writer.query('begin');
      await writer.query(`update idempotency_records set locked_until = now() + interval '1 h' where id = $1`, [claim.id]);
      const transaction = await begun(shop.store, claim, { isolation });
      const all = Promise.all([tick(transaction), transaction.client.query(INSERT, ['charged']), tick(transaction)]);
      await bench.somebodyWaitsForALock();
      await writer.query('commit');
      writer.release();
      await all;
      expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
      expect([await ticks(), await notes(bench)]).toEqual([before + 2, ['charged']]);
    },
  );

  it('begins before anything else is sent, and again where the connection has forgotten how to', async () => {
    for (const forget of ['select', 'deallocate all', 'discard all']) {
      await outside(shop, forget);
      const transaction = await begun(shop.store, await owned(shop.store));
      await Promise.all(['first', 'second', 'third'].map((note) => transaction.client.query(INSERT, [note])));
      const { rows } = await transaction.client.query<{ note: string }>('select note from ledger order by id');
      expect(rows.map(({ note }) => note)).toEqual(['first', 'second', 'third']);
      await transaction.rollBack();
      expect(await notes(bench)).toEqual([]);
      await outside(shop, forget);
      const other = await begun(shop.store, await owned(shop.store));
      await shop.query(other, 'select 1'); // may be several, and waits for the beginning
      await other.rollBack();
    }
  });

  it('waits behind what is on its way already', async () => {
    const client = await connectionOf(shop);
    const transaction = await begun(shop.store, claim);
    const before = client.query('select pg_sleep(0.02)');
    await transaction.client.query(INSERT, ['charged']);
    await before;
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['charged']);
  });

  it('gives its first statement as long as that takes', async () => {
    const transaction = await begun(shop.store, claim, { connectMs: 200 });
    await transaction.client.query('select pg_sleep($1)', [0.4]);
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
  });

  it('that can’t begin carries nothing out, and is refused', async () => {
    const before = await ticks();
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [claim.id]);
    await outside(shop, `set lock_timeout = '20ms'`);
    const transaction = await begun(shop.store, claim);
    const unavailable = { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', cause: { code: '55P03' } };
    const asked = [tick(transaction), tick(transaction), transaction.probe(), transaction.savepoint(async () => undefined)];
    for (const one of asked) await expect(one).rejects.toMatchObject(unavailable);
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: unavailable });
    await holder.query('rollback');
    holder.release();
    await outside(shop, 'reset lock_timeout');
    expect(await ticks()).toBe(before);
    expect(await shop.store.release(claim, HOUR, IN_TIME)).toBe('freed');
  });

  it('whose connection is gone by then carries nothing out, and another one serves the next', async () => {
    const before = await ticks();
    const transaction = await begun(shop.store, claim);
    const lost = line.loseAnswerTo('idempotency_hold_or_fail');
    const asked = [tick(transaction), tick(transaction)];
    for (const one of asked) await expect(one).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    await lost;
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
    const next = await begun(shop.store, claim);
    await next.client.query(INSERT, ['charged']);
    expect(await next.commit(answering(claim))).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['charged']);
    expect(await ticks()).toBeLessThanOrEqual(before + 1); // it arrived, and was undone with its connection
  });

  it('tells an error of its first statement as it is, and can’t be committed', async () => {
    const query = { name: 'single', text: 'insert into single values ($1)', values: ['charged'] };
    const first = await begun(shop.store, claim);
    await first.client.query(query);
    expect(await first.commit(answering(claim))).toEqual({ kind: 'committed' });
    const [second, third] = [await owned(shop.store), await owned(shop.store)];
    const transaction = await begun(shop.store, second);
    await expect(transaction.client.query(query)).rejects.toMatchObject({ code: '23505' });
    expect(await transaction.commit(answering(second))).toMatchObject({ kind: 'refused', cause: { code: '23505' } });
    const next = await begun(shop.store, third);
    expect(await next.client.query({ ...query, values: ['again'] })).toEqual({ rows: [], rowCount: 1 });
    expect(await next.commit(answering(third))).toEqual({ kind: 'committed' });
  });

  it.each(['22012', '57014', 'XX000'])('tells its first statement’s error (%s) as it is, and is refused with it', async (code) => {
    const transaction = await begun(shop.store, claim);
    await expect(transaction.client.query('select fail($1)', [code])).rejects.toMatchObject({ code });
    await expect(transaction.client.query('select 1')).rejects.toMatchObject({ code: '25P02' });
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code } });
  });

  it('may have what goes along prepared by a statement that failed', async () => {
    const [second, third] = [await owned(shop.store), await owned(shop.store)];
    const divide = { name: 'divide', text: 'select 1 / $1::int as n' };
    const failed = await begun(shop.store, claim);
    await expect(failed.client.query({ ...divide, values: [0] })).rejects.toMatchObject({ code: '22012' });
    expect(await failed.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code: '22012' } });
    const next = await begun(shop.store, second);
    expect((await next.client.query({ ...divide, values: [1] })).rows).toEqual([{ n: 1 }]);
    await next.rollBack();

    const unknown = { name: 'unknown', text: 'select n from unknown where n = $1' };
    for (const claimed of [third, await owned(shop.store)]) {
      const transaction = await begun(shop.store, claimed);
      await expect(transaction.client.query({ ...unknown, values: [1] })).rejects.toMatchObject({ code: '42P01' });
      await transaction.rollBack();
    }
  });

  it('carries out in the order in which its handler sends', async () => {
    for (let detours = 0; detours < 8; detours += 1) {
      const transaction = await begun(shop.store, await owned(shop.store));
      const add = (note: string) => transaction.client.query(INSERT, [note]);
      const [first, second] = [add('first'), add('second')];
      await first;
      for (let i = 0; i < detours; i += 1) await Promise.resolve();
      await add('third');
      await second;
      const { rows } = await transaction.client.query<{ note: string }>('select note from ledger order by id');
      expect(rows.map(({ note }) => note)).toEqual(['first', 'second', 'third']);
      await transaction.rollBack();
    }
  });

  it('can’t be committed after its connection is lost while its first statement is at work', async () => {
    await outside(shop, 'select');
    const client = await connectionOf(shop);
    const lingers = new Promise((resolve) => client.once('notice', resolve)); // behind the answers to what came before it
    const transaction = await begun(shop.store, claim);
    const lost = Promise.allSettled([transaction.client.query('select linger($1)', [60])]);
    await lingers;
    line.cut();
    line.restore();
    expect(await lost).toMatchObject([{ reason: { message: 'Connection terminated unexpectedly' } }]);
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
    await bench.pool.query(`select pg_terminate_backend(pid) from pg_stat_activity where query = 'select linger($1)'`);
  });

  it.each(['commit', 'undo', 'probe'] as const)('does not wait for ever at its end for what its handler has given up (%s)', async (end) => {
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [claim.id]);
    const transaction = await begun(shop.store, claim, { connectMs: 300 });
    const givenUp = Promise.allSettled([tick(transaction)]);
    const unavailable = { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' };
    if (end === 'probe') await expect(transaction.probe()).rejects.toMatchObject(unavailable);
    else expect(await transaction[end](answering(claim))).toMatchObject({ kind: 'refused', cause: unavailable });
    if (end === 'probe') await transaction.rollBack();
    expect(await givenUp).toMatchObject([{ reason: unavailable }]);
    await holder.query('rollback');
    holder.release();
  });

  it('sends nothing on a connection that it has given back', async () => {
    const sent: string[] = [];
    const store = bench.store({ application: shop.application, onStatement: (name) => sent.push(name) });
    const late: ((transaction: RecordTransaction) => Promise<unknown>)[] = [
      (transaction) => transaction.probe(),
      (transaction) => transaction.savepoint(async () => undefined),
      (transaction) => transaction.write(answering(claim)),
      (transaction) => transaction.recordStep(claim, { name: 'charge', result: Buffer.from('1') }),
      async (transaction) => {
        const { kind } = await transaction.commit(answering(claim));
        if (kind === 'refused') throw new Error(kind);
      },
    ];
    for (const use of late) {
      const transaction = await begun(store, claim, { promptness: promptness() });
      await transaction.rollBack();
      await expect(use(transaction)).rejects.toBeInstanceOf(Error);
      await nextTurn();
    }
    expect(sent).toEqual([]);
  });

  it.each(['before', 'while'])('does not begin again when it is rolled back in between (%s it undoes its first try)', async (when) => {
    const before = await ticks();
    let rolledBack: Promise<void> | undefined;
    let undone = 0;
    const store = bench.store({
      application: shop.application,
      onStatement: (name) => {
        if (name !== 'idempotency_roll_back') return;
        undone += 1;
        queueMicrotask(() => void (rolledBack ??= transaction.rollBack()));
      },
    });
    const writer = await bench.pool.connect();
    await writer.query('begin');
    await writer.query(`update idempotency_records set locked_until = now() + interval '1 h' where id = $1`, [claim.id]);
    const transaction = await begun(store, claim, { isolation: 'REPEATABLE READ', promptness: promptness() });
    const refused = Promise.allSettled([tick(transaction)]);
    await bench.somebodyWaitsForALock();
    if (when === 'before') rolledBack = transaction.rollBack();
    await writer.query('commit');
    writer.release();
    expect(await refused).toMatchObject([{ reason: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } }]);
    await rolledBack;
    expect(undone).toBe(when === 'before' ? 1 : 2); // what comes behind the last one is somebody else's
    expect(await ticks()).toBe(before);
  });

  it('refuses what the driver refuses to write, and begins all the same', async () => {
    const statement = { name: 'one', text: 'select $1::int as n' };
    const first = await begun(shop.store, claim);
    expect((await first.client.query({ ...statement, values: [1] })).rows).toEqual([{ n: 1 }]);
    await first.rollBack();
    const transaction = await begun(shop.store, claim);
    await expect(transaction.client.query({ name: 'one', text: 'select $1::int as m', values: [1] })).rejects.toThrow('must be unique');
    const circular: { self?: unknown } = {};
    circular.self = circular;
    await expect(transaction.client.query(INSERT, [circular])).rejects.toThrow('circular');
    await transaction.client.query(INSERT, ['charged']);
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    const other = await begun(shop.store, await owned(shop.store));
    await expect(other.client.query(INSERT, [circular])).rejects.toThrow('circular');
    await other.client.query(INSERT, ['undone']);
    await other.rollBack();
    expect(await notes(bench)).toEqual(['charged']);
  });

  it('sends nothing if it ends before it has begun', async () => {
    const trips = await tripsOf(async () => (await begun(shop.store, claim)).rollBack());
    expect(trips).toEqual([]);
  });

  it('begins for whatever needs it', async () => {
    const steps: ((transaction: RecordTransaction) => Promise<unknown>)[] = [
      (transaction) => transaction.savepoint(async () => undefined),
      (transaction) => transaction.probe(),
      async (transaction) => transaction.write(answering(await owned(shop.store))),
      (transaction) => transaction.recordStep(claim, { name: 'charge', result: Buffer.from('1') }),
    ];
    for (const step of steps) {
      const trips = await tripsOf(async () => {
        const transaction = await begun(shop.store, claim);
        await transaction.keepAlive(); // nothing is idle yet
        await step(transaction);
        await transaction.rollBack();
      });
      expect(trips.filter((trip) => trip.join() !== 'idempotency_claim')[0]).toEqual(BEGIN);
    }
    expect(await (await begun(shop.store, claim)).undo(releasing(claim))).toEqual({ kind: 'committed' });
  });

  it('lets nothing through that comes when it is over', async () => {
    const holder = await bench.pool.connect();
    await holder.query('begin');
    await holder.query('select from idempotency_records where id = $1 for update', [claim.id]);
    const transaction = await begun(shop.store, claim);
    const sent = Promise.allSettled(['first', 'second'].map((note) => transaction.client.query(INSERT, [note])));
    await bench.somebodyWaitsForALock();
    const ending = transaction.commit(answering(claim));
    await holder.query('rollback');
    holder.release();
    expect(await sent).toMatchObject([{ status: 'fulfilled' }, { reason: { code: 'IDEMPOTENCY_TRANSACTION_MISUSED' } }]);
    expect(await ending).toEqual({ kind: 'committed' });
    expect(await notes(bench)).toEqual(['first']);
  });
});

describe('how prompt a handler is', () => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await poolShop(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  async function seenOf(
    handler: (transaction: RecordTransaction) => Promise<unknown>,
    seen = new Promptness(),
    { store } = shop,
  ): Promise<Promptness> {
    const transaction = await begun(store, await owned(store), { promptness: seen });
    await handler(transaction);
    await transaction.rollBack();
    await nextTurn();
    return seen;
  }

  const atOnce = (transaction: RecordTransaction) => transaction.client.query(INSERT, ['charged']);
  const afterSomethingElse = async (transaction: RecordTransaction) => {
    await nextTurn();
    await atOnce(transaction);
  };

  it('is seen at the first statement, and believed until it is not any more', async () => {
    const seen = await seenOf(atOnce);
    expect([seen.isPrompt, seen.isLate]).toEqual([true, false]);
    await seenOf(atOnce, seen);
    expect(seen.isPrompt).toBe(true);
    await seenOf(afterSomethingElse, seen);
    expect([seen.isPrompt, seen.isLate]).toEqual([false, true]);
    await seenOf(atOnce, seen);
    seen.saw(true); // by one that was at work meanwhile
    expect(seen.isPrompt).toBe(false);
  });

  it('is not seen from one that ends at once', async () => {
    const seen = await seenOf(async () => undefined);
    expect([seen.isPrompt, seen.isLate]).toEqual([false, false]);
    await seenOf(async () => undefined, await seenOf(atOnce, seen));
    expect(seen.isPrompt).toBe(true);
  });

  it('lets nothing through outside of a transaction that could not begin, though a tracer hands it to the driver later', async () => {
    const own = await poolShop(bench, { size: 1 });
    promptly(own.store);
    await seenOf(atOnce, promptness(), own);
    const claim = await owned(own.store);
    await outside(own, 'deallocate all');
    const client = await connectionOf(own);
    const bare = client.query.bind(client) as (...sent: unknown[]) => unknown;
    client.query = ((...sent: [object | string]) =>
      typeof sent[0] === 'string' || 'submit' in sent[0] ? bare(...sent) : Promise.resolve().then(() => bare(...sent))) as never;
    const transaction = await begun(own.store, claim);
    await transaction.client.query(INSERT, ['charged']).catch(() => undefined);
    await transaction.rollBack();
    expect(await notes(bench)).toEqual([]);
    await own.close();
  });

  it('does not matter to a limit of the driver’s own: the handler is told, and nothing is committed', async () => {
    const pool = new Pool({ connectionString: bench.url, max: 1, query_timeout: 500 });
    const store = bench.store({ application: { pool } });
    const claim = await owned(store);
    const transaction = await begun(store, claim, { promptness: promptness() });
    await expect(transaction.client.query('select pg_sleep($1)', [2])).rejects.toBeInstanceOf(Error);
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused' });
    const next = await begun(store, await owned(store), { promptness: promptness() });
    await next.client.query(INSERT, ['charged']);
    await next.rollBack();
    await pool.end();
  });

  it('does not matter on a connection on which nothing can go along', async () => {
    const sent: string[] = [];
    const pool = new Pool({ connectionString: bench.url, max: 1, pipeline: true } as PoolConfig);
    const store = bench.store({ application: { pool }, onStatement: (name) => sent.push(name) });
    const transaction = await begun(store, await owned(store), { promptness: promptness() });
    expect(sent.slice(1)).toEqual(BEGIN);
    await transaction.rollBack();
    await pool.end();
  });

  it('makes the transaction begin without it where it was taken for prompt and is not', async () => {
    const sent: string[] = [];
    const store = bench.store({ application: shop.application, onStatement: (name) => sent.push(name) });
    const [claim, seen] = [await owned(store), promptness()];
    const transaction = await begun(store, claim, { promptness: seen });
    expect(sent).toEqual(['idempotency_claim']);
    await new Promise((resolve) => process.nextTick(resolve));
    expect([sent.slice(1), seen.isLate]).toEqual([BEGIN, true]);
    await atOnce(transaction);
    expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
  });
});

/** All others are asked for a promise. */
describe('TypeORM’s own connection, when it is asked in another form', () => {
  type Ask = (connection: PoolClient, told: (n: number | undefined) => void) => void;
  interface Result {
    readonly rows: readonly { readonly n: number }[];
  }
  const tell = (told: (n: number | undefined) => void) => (_error: unknown, result: Result | undefined) => told(result?.rows[0]!.n);

  it.each<[string, Ask]>([
    ['by a callback', (connection, told) => connection.query<{ n: number }>('select $1::int as n', [2], tell(told))],
    ['by a callback, without values', (connection, told) => connection.query<{ n: number }>('select 2 as n', tell(told))],
    [
      'by an object that sends itself',
      (connection, told) => {
        const query = new Query('select $1::int as n', [2], tell(told) as never);
        expect(connection.query(query)).toBe(query);
      },
    ],
    ['by a callback within', (connection, told) => void connection.query({ text: 'select 2 as n', callback: tell(told) } as never)],
  ])('%s, answers so: with what it begins with, after it, and if it can’t begin', async (_form, ask) => {
    const shop = await typeormShop(bench, { size: 1 });
    promptly(shop.store);
    const claims = [await owned(shop.store), await owned(shop.store), await owned(shop.store)] as const;
    await steal(claims[2]);
    const answers: unknown[] = [];
    for (const claim of claims) {
      const transaction = await begun(shop.store, claim);
      const connection = (transaction.manager as unknown as { queryRunner: { databaseConnection: PoolClient } }).queryRunner
        .databaseConnection;
      const before = claim === claims[1] ? transaction.client.query('select $1::int', [1]) : undefined;
      answers.push(await new Promise((resolve) => ask(connection, resolve)));
      await before;
      answers.push((await transaction.commit(answering(claim))).kind);
    }
    expect(answers).toEqual([2, 'committed', 2, 'committed', undefined, 'superseded']);
    await shop.close();
  });
});
