/** Steps: whose they are, in which life of a key they are seen, and what goes with them. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Claim, FoundRecord, Ownership } from '../../lib/contract/record.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import {
  aClaim,
  anAnswer,
  anIdentity,
  completed,
  EXPIRED,
  HOUR,
  IN_TIME,
  LEASE_PASSED,
  openBench,
  owned,
  SECOND,
  type Bench,
} from './store-fixture.js';
import { answering, begun } from './transaction-fixture.js';

let bench: Bench;
let store: PostgresStore;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
});
beforeEach(() => bench.pool.query('truncate idempotency_records, idempotency_steps'));
afterAll(() => bench.close());

const again = (first: Claim) => aClaim(first.identity);
const record = (ownership: Ownership, name: string, result = '"done"') =>
  store.recordStep(ownership, { name, result: Buffer.from(result) }, IN_TIME);
const stepsOf = async (ownership: Ownership) =>
  (await store.steps(ownership, IN_TIME)).map(({ name, result }) => [name, result.toString()]);

async function stepsLeft(): Promise<number> {
  const { rows } = await bench.pool.query<{ n: number }>('select count(*)::int as n from idempotency_steps');
  return rows[0]!.n;
}

async function found(claim: Claim): Promise<FoundRecord> {
  const result = await store.claim(claim, IN_TIME);
  if (result.kind !== 'found') throw new Error('The key was free.');
  return result.record;
}

async function takenOver(first: Claim): Promise<Claim> {
  const next = again(first);
  const result = await store.takeOver(next, await found(next), IN_TIME);
  if (result.kind !== 'taken') throw new Error('Not taken over.');
  return next;
}

describe('recordStep', () => {
  it('keeps names and results byte for byte, in order', async () => {
    const claim = await owned(store);
    const results = ['{"id":"ch_1"}', '', 'null', `"${'Žofie 🛶'.repeat(20)}"`];
    for (const [n, result] of results.entries()) expect(await record(claim, `step ${9 - n}`, result)).toBe(true);
    expect(await stepsOf(claim)).toEqual(results.map((result, n) => [`step ${9 - n}`, result]));
    expect((await store.find(claim.identity))?.steps).toEqual(['step 9', 'step 8', 'step 7', 'step 6']);
  });

  it('tells names apart that differ in case alone', async () => {
    const claim = await owned(store);
    await record(claim, 'a', '1');
    await record(claim, 'A', '2');
    expect(await stepsOf(claim)).toEqual([
      ['a', '1'],
      ['A', '2'],
    ]);
  });

  it('counts as recorded when its owner repeats it, and the first result stays', async () => {
    const claim = await owned(store);
    expect(await record(claim, 'charge', '1')).toBe(true);
    expect(await record(claim, 'charge', '2')).toBe(true);
    expect(await stepsOf(claim)).toEqual([['charge', '1']]);
  });

  it('is refused to an owner that is superseded, has given an answer, or has given the key back', async () => {
    const [late, done, gone] = [await owned(store), await completed(store), await owned(store)];
    await bench.alter(late.id, LEASE_PASSED);
    const current = await takenOver(late);
    await store.release(gone, HOUR, IN_TIME);
    expect([
      await record(late, 'charge'),
      await record(done, 'charge'),
      await record(gone, 'charge'),
      await record(aClaim(), 'charge'),
    ]).toEqual([false, false, false, false]);
    expect(await stepsOf(current)).toEqual([]);
    expect(await stepsLeft()).toBe(0);
  });

  it('does not replace what the owner before has recorded: that stands, and this one is told no', async () => {
    const first = await owned(store);
    await record(first, 'charge', '"first"');
    await bench.alter(first.id, LEASE_PASSED);
    const second = await takenOver(first);
    expect(await record(second, 'charge', '"second"')).toBe(false);
    expect(await stepsOf(second)).toEqual([['charge', '"first"']]);
  });

  it('lets one of two owners have a phase: the later one waits for the commit of the other, and is told no', async () => {
    const first = await owned(store);
    const phase = await begun(store, first, { holdsRecord: false });
    expect(await phase.recordStep(first, { name: 'book', result: Buffer.from('"first"') })).toBe(true);
    await bench.alter(first.id, LEASE_PASSED);
    const second = await takenOver(first);
    const recording = record(second, 'book', '"second"');
    await bench.somebodyWaitsForALock();
    expect(await phase.commit()).toEqual({ kind: 'committed' });
    expect(await recording).toBe(false);
    expect(await stepsOf(second)).toEqual([['book', '"first"']]);
  });

  it('does not wait for the transaction that holds the record, and survives its rollback', async () => {
    const claim = await owned(store);
    const transaction = await begun(store, claim, { isolation: 'REPEATABLE READ' });
    expect(await record(claim, 'charge')).toBe(true);
    await transaction.rollBack();
    expect(await stepsOf(claim)).toEqual([['charge', '"done"']]);
    expect(await store.release(claim, HOUR, IN_TIME)).toBe('opened');
  });

  it('in a transaction comes and goes with it', async () => {
    const claim = await owned(store);
    const undone = await begun(store, claim);
    expect(await undone.recordStep(claim, { name: 'book', result: Buffer.from('1') })).toBe(true);
    await undone.rollBack();
    expect(await stepsOf(claim)).toEqual([]);

    const kept = await begun(store, claim);
    await kept.recordStep(claim, { name: 'book', result: Buffer.from('1') });
    await kept.commit(answering(claim));
    expect((await store.find(claim.identity))?.steps).toEqual(['book']);
  });
});

describe('release', () => {
  it('opens a record with steps for its retention, and frees one without', async () => {
    const [open, free] = [await owned(store), await owned(store)];
    await record(open, 'charge');
    expect(await store.release(open, HOUR, IN_TIME)).toBe('opened');
    expect(await store.release(open, HOUR, IN_TIME)).toBe('opened'); // sent again, since the answer was lost
    expect(await store.release(free, HOUR, IN_TIME)).toBe('freed');
    expect(await store.find(open.identity)).toMatchObject({ state: 'open', attempt: 1, steps: ['charge'], expiresAt: expect.any(Date) });
    expect(await store.find(open.identity)).not.toHaveProperty('lockedUntil');
    expect(await bench.count(`expires_at between now() + interval '59 min' and now() + interval '61 min'`)).toBe(1);
  });

  it('of a superseded owner opens nothing', async () => {
    const late = await owned(store);
    await record(late, 'charge');
    await bench.alter(late.id, LEASE_PASSED);
    const current = await takenOver(late);
    expect(await store.release(late, HOUR, IN_TIME)).toBe('absent');
    expect(await store.find(late.identity)).toMatchObject({ state: 'running' });
    expect(await store.release(current, HOUR, IN_TIME)).toBe('opened');
    expect(await store.release(late, HOUR, IN_TIME)).toBe('absent');
  });
});

describe('an open record', () => {
  it('is resumed with its steps, as the next attempt', async () => {
    const first = await owned(store);
    await record(first, 'charge', '"ch_1"');
    await store.release(first, HOUR, IN_TIME);
    const second = await takenOver(first);
    expect(await stepsOf(second)).toEqual([['charge', '"ch_1"']]);
    expect(await record(second, 'mail', '"sent"')).toBe(true);
    await store.release(second, HOUR, IN_TIME);
    const third = await takenOver(first);
    expect(await stepsOf(third)).toEqual([
      ['charge', '"ch_1"'],
      ['mail', '"sent"'],
    ]);
    await store.complete(third, anAnswer(), HOUR, IN_TIME);
    expect(await store.find(first.identity)).toMatchObject({ state: 'completed', attempt: 3, steps: ['charge', 'mail'] });
  });

  it('that has expired is not taken over', async () => {
    const first = await owned(store);
    await record(first, 'charge');
    await store.release(first, HOUR, IN_TIME);
    const next = again(first);
    const open = await found(next);
    await bench.alter(first.id, EXPIRED);
    expect(await store.takeOver(next, open, IN_TIME)).toEqual({ kind: 'changed' });
  });
});

describe('the steps of an earlier life', () => {
  it('go when the expired key is claimed anew', async () => {
    const first = await owned(store);
    await record(first, 'charge');
    await store.release(first, HOUR, IN_TIME);
    await bench.alter(first.id, EXPIRED);
    const second = await owned(store, again(first));
    expect([await stepsOf(second), await stepsLeft()]).toEqual([[], 0]);
    expect(await record(second, 'charge', '"other"')).toBe(true);
    expect(await stepsOf(second)).toEqual([['charge', '"other"']]);
  });

  it('are not seen even where they were left behind', async () => {
    const first = await owned(store);
    await record(first, 'charge');
    await bench.pool.query('delete from idempotency_records');
    const second = await owned(store, again(first));
    expect(await stepsOf(second)).toEqual([]);
    expect((await store.find(second.identity))?.steps).toEqual([]);
    expect(await store.release(second, HOUR, IN_TIME)).toBe('freed');
  });
});

describe('with a record go its steps', () => {
  async function withStep(identity = anIdentity()): Promise<Claim> {
    const claim = await owned(store, aClaim(identity));
    await record(claim, 'charge');
    return claim;
  }

  it('when it is forgotten', async () => {
    const [lost, open, live] = [await withStep(), await withStep(), await withStep()];
    await bench.alter(lost.id, LEASE_PASSED);
    await store.release(open, HOUR, IN_TIME);
    expect(await store.forget(lost.identity)).toBe('removed');
    expect(await store.forget(open.identity)).toBe('removed');
    expect(await store.forget(live.identity)).toBe('live');
    expect([await stepsLeft(), await stepsOf(live)]).toEqual([1, [['charge', '"done"']]]);
  });

  it('when its scope is forgotten', async () => {
    const scope = 'id=7';
    const [open, lost, live, done] = [
      await withStep(anIdentity({ scope })),
      await withStep(anIdentity({ scope })),
      await withStep(anIdentity({ scope })),
      await withStep(anIdentity({ scope })),
    ];
    await completed(store, aClaim(anIdentity({ scope })));
    await store.release(open, HOUR, IN_TIME);
    await bench.alter(lost.id, LEASE_PASSED);
    await store.complete(done, anAnswer(), HOUR, IN_TIME);
    const other = await withStep();
    expect(await store.forgetScope(scope, 2)).toBe(4);
    expect([await bench.count(), await stepsLeft()]).toEqual([2, 2]);
    expect([await stepsOf(live), await stepsOf(other)]).toEqual([[['charge', '"done"']], [['charge', '"done"']]]);
  });

  it('when it is reaped', async () => {
    const claims = [await withStep(), await withStep(), await completed(store), await withStep()];
    for (const claim of claims.slice(0, 2)) await store.complete(claim, anAnswer(), HOUR, IN_TIME);
    for (const claim of claims.slice(0, 3)) await bench.alter(claim.id, EXPIRED);
    expect([await store.reap(2), await store.reap(2), await store.reap(2)]).toEqual([2, 1, 0]);
    expect([await bench.count(), await stepsLeft()]).toEqual([1, 1]);
  });
});

describe('resolve', () => {
  const resolve = (claim: Claim, answer = undefined as ReturnType<typeof anAnswer> | undefined) =>
    store.resolve(claim.identity, answer, HOUR);

  async function unsettled(): Promise<Record<'lost' | 'open' | 'sealed', Claim>> {
    const [lost, open, sealed] = [await owned(store), await owned(store), await owned(store)];
    await record(lost, 'charge');
    await record(open, 'charge');
    await bench.alter(lost.id, LEASE_PASSED);
    await store.release(open, HOUR, IN_TIME);
    await store.seal(sealed, 200, HOUR, IN_TIME);
    return { lost, open, sealed };
  }

  it.each(['lost', 'open', 'sealed'] as const)('gives a %s record an answer, for its retention', async (state) => {
    const claim = (await unsettled())[state];
    expect(await resolve(claim, anAnswer({ status: 202 }))).toBe('resolved');
    expect(await found(again(claim))).toMatchObject({ state: 'completed', answer: anAnswer({ status: 202 }) });
    expect(await bench.count(`id = '${claim.id}' and locked_until is null and expires_at = completed_at + interval '1 hour'`)).toBe(1);
    expect(await resolve(claim, anAnswer())).toBe('completed');
    expect(await resolve(claim)).toBe('completed');
  });

  it.each(['lost', 'open', 'sealed'] as const)('frees the key of a %s record, and its steps go', async (state) => {
    const claim = (await unsettled())[state];
    const others = (await stepsLeft()) - (state === 'sealed' ? 0 : 1);
    expect(await resolve(claim)).toBe('resolved');
    expect(await resolve(claim)).toBe('absent');
    expect(await stepsLeft()).toBe(others);
    expect(await store.claim(again(claim), IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it('leaves a running record alone, and finds none where none is or its time is over', async () => {
    const [live, old] = [await owned(store), (await unsettled()).sealed];
    await bench.alter(old.id, EXPIRED);
    for (const answer of [undefined, anAnswer()]) {
      expect(await resolve(live, answer)).toBe('live');
      expect(await resolve(old, answer)).toBe('absent');
      expect(await resolve(aClaim(), answer)).toBe('absent');
    }
  });

  it('makes a late owner learn that its own answer is none', async () => {
    const { lost, sealed } = await unsettled();
    for (const claim of [lost, sealed]) {
      await resolve(claim, anAnswer({ status: 202 }));
      expect(await store.complete(claim, anAnswer(), HOUR, IN_TIME)).toMatchObject({
        kind: 'superseded',
        record: { state: 'completed', answer: { status: 202 } },
      });
    }
  });

  it('refuses a record with another key under the same digest', async () => {
    const { lost } = await unsettled();
    const other = { ...lost.identity, key: 'another' };
    await expect(store.resolve(other, anAnswer(), HOUR)).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD_UNREADABLE' });
    await expect(store.resolve(other, undefined, HOUR)).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD_UNREADABLE' });
  });
});

describe('flush', () => {
  it('has on disk a claim that was committed without waiting for it', async () => {
    const careless = bench.store({ connection: { connectionString: bench.url } });
    const claim = await owned(careless, aClaim(anIdentity(), { durable: false, leaseMs: 60 * SECOND }));
    const { rows } = await bench.pool.query<{ written: string }>('select pg_current_wal_insert_lsn() as written');
    expect(await careless.flush(claim, IN_TIME)).toBe(true);
    const flushed = await bench.pool.query<{ done: boolean }>('select pg_current_wal_flush_lsn() >= $1::pg_lsn as done', [
      rows[0]!.written,
    ]);
    expect(flushed.rows[0]!.done).toBe(true);
  });

  it('does not wait for the transaction that holds the record', async () => {
    const claim = await owned(store);
    const transaction = await begun(store, claim);
    expect(await store.flush(claim, IN_TIME)).toBe(true);
    await transaction.rollBack();
  });

  it('says when there is nothing of that owner’s to bring to disk: forgotten, taken over, or over', async () => {
    const done = await owned(store);
    await store.complete(done, anAnswer(), HOUR, IN_TIME);
    for (const claim of [aClaim(), { ...(await owned(store)), owner: randomUUID() }, done]) {
      expect(await store.flush(claim, IN_TIME)).toBe(false);
    }
  });
});
