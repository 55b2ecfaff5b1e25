/** Transactions that don't come through, and the truth about those of which nobody heard. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import type { Claim } from '../../lib/contract/record.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { listen, type Listener } from './pool-fixture.js';
import { aClaim, HOUR, IN_TIME, LEASE_PASSED, openBench, owned, type Bench } from './store-fixture.js';
import {
  answering,
  begun,
  makeLedger,
  notes,
  nothingIsLent,
  releasing,
  sealing,
  PROMPT_SHOPS,
  SHOPS,
  type Shop,
} from './transaction-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await makeLedger(bench);
  await bench.pool.query('create table balance (id int primary key, amount int not null)');
  await bench.pool.query('create table slot (id int, constraint one_each unique (id) deferrable initially deferred)');
});
beforeEach(() => bench.pool.query('truncate ledger, balance, slot; insert into balance values (1, 0), (2, 0)'));
afterAll(() => bench.close());

async function pidOf(transaction: RecordTransaction): Promise<number> {
  const { rows } = await transaction.client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]!.pid;
}

async function isGone(pid: number): Promise<void> {
  while ((await bench.pool.query('select from pg_stat_activity where pid = $1', [pid])).rowCount !== 0);
}

async function isFree(claim: Claim, store: Shop['store']): Promise<void> {
  expect(await store.release(claim, HOUR, IN_TIME)).toBe('freed');
  expect(await store.claim(aClaim(claim.identity), IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });
}

describe.each([...SHOPS, ...PROMPT_SHOPS])('a transaction that Postgres refuses (%s)', (_, open) => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await open(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  it('for a constraint that is checked at COMMIT says so, and nothing is left of it', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.query(transaction, 'insert into slot values (1), (1)');
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', transient: false, cause: { code: '23505' } });
    expect((await bench.pool.query('select from slot')).rowCount).toBe(0);
    await isFree(claim, shop.store);
  });

  it('for another one that came first (SERIALIZABLE) is one that may be tried again', async () => {
    const claims = [await owned(shop.store), await owned(shop.store)] as const;
    const [first, second] = [
      await begun(shop.store, claims[0], { isolation: 'SERIALIZABLE' }),
      await begun(shop.store, claims[1], { isolation: 'SERIALIZABLE' }),
    ];
    for (const transaction of [first, second]) await shop.query(transaction, 'select sum(amount) from balance');
    await shop.query(first, 'update balance set amount = 1 where id = 1');
    await shop.query(second, 'update balance set amount = 1 where id = 2');
    const ends = [await first.commit(answering(claims[0])), await second.commit(answering(claims[1]))];
    expect(ends).toEqual([{ kind: 'committed' }, expect.objectContaining({ cause: expect.objectContaining({ code: '40001' }) })]);
    expect((await bench.pool.query('select amount from balance order by id')).rows).toEqual([{ amount: 1 }, { amount: 0 }]);
    await isFree(claims[1], shop.store);
  });

  it('for a deadlock is told as one, though the handler has kept that to itself', async () => {
    const claims = [await owned(shop.store), await owned(shop.store)] as const;
    const [first, second] = [await begun(shop.store, claims[0]), await begun(shop.store, claims[1])];
    await shop.query(first, 'update balance set amount = 1 where id = 1');
    await shop.query(second, 'update balance set amount = 2 where id = 2');
    const quiet = (work: Promise<unknown>) => work.catch(() => undefined);
    await Promise.all([
      quiet(shop.query(first, 'update balance set amount = 1 where id = 2')),
      quiet(shop.query(second, 'update balance set amount = 2 where id = 1')),
    ]);
    const ends = await Promise.all([first.commit(answering(claims[0])), second.commit(answering(claims[1]))]);
    expect(ends).toContainEqual({ kind: 'committed' });
    expect(ends).toContainEqual({ kind: 'refused', transient: true, cause: expect.objectContaining({ code: '40P01' }) });
  });

  it.each([
    ['23502', false, 'insert into ledger (note) values (null)'],
    ['22012', false, 'select 1/0'],
    ['40001', true, `do $$ begin raise exception 'later' using errcode = '40001'; end $$`],
  ])('since an error (%s) had aborted it is not taken for committed', async (code, transient, text) => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    await shop.query(transaction, text).catch(() => undefined);
    await shop.query(transaction, 'select 1').catch(() => undefined); // says only that it is aborted
    expect(await transaction.commit()).toMatchObject({ kind: 'refused', transient, cause: { code } });
    expect(await notes(bench)).toEqual([]);
    await isFree(claim, shop.store);
  });
});

describe.each([...SHOPS, ...PROMPT_SHOPS])('a connection that breaks (%s)', (_, open) => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await open(bench, { size: 1 });
  });
  afterAll(() => shop.close());

  async function inTheHandler(end: (pid: number, transaction: RecordTransaction) => Promise<unknown>): Promise<void> {
    const claim = await owned(shop.store);
    await bench.alter(claim.id, LEASE_PASSED);
    const transaction = await begun(shop.store, claim);
    await shop.write(transaction, 'charged');
    const pid = await pidOf(transaction);
    await end(pid, transaction);
    await isGone(pid);

    const rival = aClaim(claim.identity);
    const found = await shop.store.claim(rival, IN_TIME);
    expect(found).toMatchObject({ kind: 'found', record: { state: 'lost' } }); // free at once
    await expect(shop.write(transaction, 'charged')).rejects.toBeInstanceOf(Error);
    await transaction.keepAlive();
    await expect(transaction.probe()).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    await expect(transaction.write(answering(claim))).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    // Nothing was sent that could have come through.
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
    expect(await shop.store.outcomeOf(claim, IN_TIME)).toBe('rolled-back');
    expect(await notes(bench)).toEqual([]);
    await (await begun(shop.store, claim)).rollBack(); // the pool of one has a new one
  }

  it('while the handler is at work frees the key at once, and disturbs nobody', async () => {
    await inTheHandler((pid) => bench.pool.query('select pg_terminate_backend($1)', [pid]));
  });

  it('since nothing has come from a stuck process for too long does the same', async () => {
    await inTheHandler((_pid, transaction) => shop.query(transaction, 'set local idle_in_transaction_session_timeout = 1'));
  });

  it.each(['T', 'E'] as const)('is one that was not kept alive (transaction status %s)', async (status) => {
    const transaction = await begun(shop.store, await owned(shop.store));
    const pid = await pidOf(transaction);
    if (status === 'E') await shop.query(transaction, 'select 1/0').catch(() => undefined);
    const idleSince = async () =>
      (
        await bench.pool.query<{ state: string; since: string }>(
          'select state, state_change::text as since from pg_stat_activity where pid = $1',
          [pid],
        )
      ).rows[0]!;
    const before = await idleSince();
    await transaction.keepAlive();
    const after = await idleSince();
    expect(after.state).toBe(status === 'E' ? 'idle in transaction (aborted)' : 'idle in transaction');
    expect(after.since > before.since).toBe(true);
    await transaction.rollBack();
  });
});

type Cut = 'before' | 'after' | 'unsent' | 'unanswered';

/** Cuts the line at a transaction's end: before or after Postgres has had it; or keeps it, or the answer to it, and says nothing. */
async function commitCutter(url: string, cut: Cut): Promise<Listener & { readonly url: string }> {
  const { hostname, port } = new URL(url);
  const listener = await listen((client) => {
    const server = connect(Number(port), hostname);
    const end = (): void => void (client.destroy(), server.destroy());
    let committing = false;
    client.on('data', (bytes: Buffer) => {
      committing ||= bytes.includes('commit\0') || bytes.includes('rollback\0');
      if (committing && cut === 'before') end();
      else if (!committing || cut !== 'unsent') server.write(bytes);
    });
    server.on('data', (bytes: Buffer) => {
      if (committing && cut === 'after') end();
      else if (!committing || cut !== 'unanswered') client.write(bytes);
    });
    client.on('error', end).on('close', end);
    server.on('error', end).on('close', end);
  });
  return { ...listener, url: Object.assign(new URL(url), { port: String(listener.port) }).href };
}

describe.each(SHOPS)('a COMMIT that is not answered (%s)', (_, open) => {
  let shop: Shop;
  let cutter: Awaited<ReturnType<typeof commitCutter>>;
  let claim: Claim;
  let transaction: RecordTransaction;

  async function cutAt(cut: Cut): Promise<void> {
    cutter = await commitCutter(bench.url, cut);
    shop = await open(bench, { size: 2, url: cutter.url });
    claim = await owned(shop.store);
    // Where the line is silent, only time tells. Everything before takes far less.
    transaction = await begun(shop.store, claim, { connectMs: cut.startsWith('un') ? 1000 : IN_TIME });
    await shop.write(transaction, 'charged');
  }
  const outcome = (withinMs = IN_TIME) => shop.store.outcomeOf(claim, withinMs);
  afterEach(async () => {
    await shop.close();
    await cutter.close();
  });

  it.each<Cut>(['after', 'unanswered'])('though it went through (%s) is told as committed', async (cut) => {
    await cutAt(cut);
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'unknown' });
    expect(await outcome()).toBe('committed');
    expect(await notes(bench)).toEqual(['charged']);
  });

  it('since it never arrived is told as rolled back', async () => {
    await cutAt('before');
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'unknown' });
    expect(await outcome()).toBe('rolled-back');
    expect(await notes(bench)).toEqual([]);
    await isFree(claim, shop.store);
  });

  it('and may still arrive is not told at all, until its backend lets go', async () => {
    cutter = await commitCutter(bench.url, 'unsent');
    shop = await open(bench, { url: cutter.url });
    claim = await owned(shop.store);
    const other = await begun(shop.store, claim);
    const committing = other.commit(answering(claim));
    expect(await outcome(2_000)).toBeUndefined(); // Postgres gives up a tenth of that before we give up Postgres
    await cutter.close();
    expect(await committing).toMatchObject({ kind: 'unknown' });
    expect(await outcome()).toBe('rolled-back');
  });

  it.each([
    ['a seal', (t: RecordTransaction) => t.commit(sealing(claim, 200))],
    ['a record that was opened', (t: RecordTransaction) => t.undo(releasing(claim))],
  ])('of %s is told as well', async (_kind, end) => {
    await cutAt('after');
    await shop.store.recordStep(claim, { name: 'charge', result: Buffer.from('1') }, IN_TIME);
    expect(await end(transaction)).toMatchObject({ kind: 'unknown' });
    expect(await outcome()).toBe('committed');
  });

  it('of a key that was given back leaves nothing to do', async () => {
    await cutAt('after');
    expect(await transaction.undo(releasing(claim))).toMatchObject({ kind: 'unknown' });
    expect(await outcome()).toBe('rolled-back');
    expect(await shop.store.release(claim, HOUR, IN_TIME)).toBe('absent');
  });

  it('is rolled back where somebody else has the key since', async () => {
    await cutAt('before');
    await transaction.commit();
    await shop.store.release(claim, HOUR, IN_TIME);
    await owned(shop.store, aClaim(claim.identity));
    expect(await outcome()).toBe('rolled-back');
  });

  describe('of a phase that holds no record', () => {
    const charge = { name: 'charge', result: Buffer.from('1') };
    const phase = async (cut: Cut): Promise<void> => {
      cutter = await commitCutter(bench.url, cut);
      shop = await open(bench, { url: cutter.url });
      claim = await owned(shop.store);
      transaction = await begun(shop.store, claim, { holdsRecord: false });
      await shop.write(transaction, 'charged');
      expect(await transaction.recordStep(claim, charge)).toBe(true);
    };
    const outcomeOfStep = (withinMs = IN_TIME) => shop.store.outcomeOf(claim, withinMs, 'charge');
    const recorded = async () => (await shop.store.steps(claim, IN_TIME)).map(({ name }) => name);

    it.each([
      ['after', 'committed', ['charge']],
      ['before', 'rolled-back', []],
    ] as const)('is told by its step (%s: %s)', async (cut, expected, steps) => {
      await phase(cut);
      expect(await transaction.commit()).toMatchObject({ kind: 'unknown' });
      expect(await outcomeOfStep()).toBe(expected);
      expect([await recorded(), await notes(bench)]).toEqual([steps, steps.length > 0 ? ['charged'] : []]);
    });

    it('is not told until its backend has ended', async () => {
      await phase('unsent');
      const committing = transaction.commit();
      expect(await outcomeOfStep(200)).toBeUndefined();
      await cutter.close();
      await committing;
      expect(await outcomeOfStep()).toBe('rolled-back');
      expect(await recorded()).toEqual([]);
    });

    it('is nobody’s to tell where the record is somebody else’s by now', async () => {
      await phase('before');
      await transaction.commit();
      await bench.alter(claim.id, 'owner = gen_random_uuid()');
      expect(await outcomeOfStep()).toBeUndefined();
    });
  });
});
