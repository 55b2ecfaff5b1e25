/** A transaction that begins with its handler's first statement: when it does, what goes along, and what becomes of that if it can't begin. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Query, type PoolClient } from 'pg';
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
  await bench.pool.query('create sequence ticks; create table single (note text unique)');
});
beforeEach(() => bench.pool.query('truncate ledger, single'));
afterAll(() => bench.close());

/** After whatever is under way in this turn. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

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
  afterEach(() => nothingIsLent(shop));
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

  /** On the one connection that the application has. */
  const outside = ({ application }: Shop, text: string): Promise<unknown> =>
    'pool' in application ? application.pool.query(text) : application.dataSource.query(text);

  it('begins before anything else is sent, and again where the connection has forgotten how to', async () => {
    for (const forget of ['select', 'deallocate all', 'discard all']) {
      await outside(shop, forget);
      const transaction = await begun(shop.store, await owned(shop.store));
      await Promise.all(['first', 'second', 'third'].map((note) => transaction.client.query(INSERT, [note])));
      const { rows } = await transaction.client.query<{ note: string }>('select note from ledger order by id');
      expect(rows.map(({ note }) => note)).toEqual(['first', 'second', 'third']);
      await transaction.rollBack();
      expect(await notes(bench)).toEqual([]);
    }
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

  async function seenOf(handler: (transaction: RecordTransaction) => Promise<unknown>, seen = new Promptness()): Promise<Promptness> {
    const transaction = await begun(shop.store, await owned(shop.store), { promptness: seen });
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
    expect(seen.isPrompt).toBe(false);
  });

  it('is not seen from one that ends at once', async () => {
    const seen = await seenOf(async () => undefined);
    expect([seen.isPrompt, seen.isLate]).toEqual([false, false]);
    await seenOf(async () => undefined, await seenOf(atOnce, seen));
    expect(seen.isPrompt).toBe(true);
  });

  it('makes the transaction begin without it where it was taken for prompt and is not', async () => {
    const sent: string[] = [];
    const store = bench.store({ application: shop.application, onStatement: (name) => sent.push(name) });
    const [claim, seen] = [await owned(store), promptness()];
    const transaction = await begun(store, claim, { promptness: seen });
    expect(sent).toEqual(['idempotency_claim']);
    await nextTurn();
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
      (connection, told) => void connection.query(new Query('select $1::int as n', [2], tell(told) as never)),
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
