/** A record whose row a transaction holds: alive whatever its lease says, and in nobody's way. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Claim, FoundRecord } from '../../lib/contract/record.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { barrier } from '../support/barrier.js';
import { aClaim, anAnswer, HOUR, IN_TIME, LEASE_PASSED, openBench, owned, renewal, type Bench } from './store-fixture.js';
import { answering, begun, releasing, settings } from './transaction-fixture.js';

let bench: Bench;
let store: PostgresStore;
/** As another process would have it. */
let rival: PostgresStore;
let claim: Claim;
let lost: FoundRecord;
let transaction: RecordTransaction;

beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
  rival = bench.store();
});
beforeEach(async () => {
  await bench.pool.query('truncate idempotency_records');
  claim = await owned(store);
  await bench.alter(claim.id, LEASE_PASSED);
  lost = await found();
  transaction = await begun(store, claim, { isolation: 'REPEATABLE READ' });
});
afterEach(() => transaction.rollBack());
afterAll(() => bench.close());

const again = () => aClaim(claim.identity);

async function found(): Promise<FoundRecord> {
  const result = await rival.claim(again(), IN_TIME);
  if (result.kind !== 'found') throw new Error('The key was free.');
  return result.record;
}

/** What the transaction may have done by the time somebody comes. */
const PROGRESS = [
  ['it has begun', async () => undefined],
  ['it has given the answer', () => transaction.write(answering(claim))],
  ['it has given an answer that is old already', () => transaction.write(answering(claim, anAnswer(), -HOUR))],
  ['it has given the key back', () => transaction.write(releasing(claim))],
] as const;

describe.each(PROGRESS)('when %s', (_, progress) => {
  it('is found running, and nobody waits for it', async () => {
    await progress();
    expect(lost).toMatchObject({ state: 'lost' });
    expect(await found()).toMatchObject({ state: 'running', owner: claim.owner, leaseLeftMs: 0 });
    expect(await rival.find(claim.identity)).toMatchObject({ state: 'running' });
    expect(await rival.takeOver(again(), lost, IN_TIME)).toEqual({ kind: 'held' });
    expect(await rival.forget(claim.identity)).toBe('live');
    expect(await rival.forgetScope(claim.identity.scope, 10)).toBe(0);
    expect(await rival.resolve(claim.identity, undefined, HOUR)).toBe('live');
    expect(await rival.resolve(claim.identity, anAnswer(), HOUR)).toBe('live');
    expect(await rival.reap(10)).toBe(0);
    expect(await rival.stats()).toMatchObject({ running: 1, lost: 0 });
    expect(await store.renew([renewal(claim)], IN_TIME)).toEqual([claim.id]);
  });
});

it('is not written to by those who look, which under REPEATABLE READ would undo the transaction', async () => {
  await transaction.client.query('select from idempotency_records limit 1');
  await found();
  await rival.takeOver(again(), lost, IN_TIME);
  await rival.find(claim.identity);
  await rival.stats();
  await store.renew([renewal(claim)], IN_TIME);
  expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
  expect(await found()).toMatchObject({ state: 'completed' });
});

it('is told apart from those that are lost in the stats', async () => {
  const others = [await owned(store), await owned(store), await owned(store)];
  await bench.alter(others[0]!.id, `locked_until = '2001-02-03 04:05:06Z'`);
  await bench.alter(others[1]!.id, LEASE_PASSED);
  const older = await begun(store, others[0]!);
  expect(await rival.stats()).toMatchObject({ running: 3, lost: 1 });
  expect((await rival.stats()).oldestLost?.getFullYear()).not.toBe(2001);
  await older.rollBack();
  expect(await rival.stats()).toMatchObject({ running: 2, lost: 2, oldestLost: new Date('2001-02-03T04:05:06Z') });
});

it('is anybody’s at once when its owner is gone, however that ended', async () => {
  await transaction.rollBack();
  expect(await found()).toMatchObject({ state: 'lost' });
  expect(await rival.takeOver(again(), lost, IN_TIME)).toEqual({ kind: 'taken', attempt: 2 });
  expect(await store.transaction(claim, settings())).toBeUndefined();
});

it('keeps no other lease from being renewed with it', async () => {
  const other = await owned(store);
  expect([...(await store.renew([renewal(claim), renewal(other)], IN_TIME))].sort()).toEqual([claim.id, other.id].sort());
  await transaction.rollBack();
  expect(await store.renew([renewal(claim)], IN_TIME)).toEqual([claim.id]);
  expect(await found()).toMatchObject({ state: 'running' });
});

it('is taken hold of only when no renewal that names it is under way', async () => {
  const sent: string[] = [];
  const narrow = bench.store({ poolSize: 1, onStatement: (name) => sent.push(name) });
  const [busy, next] = [await owned(narrow), await owned(narrow)];
  const blocker = await bench.pool.connect();
  await blocker.query('begin');
  await blocker.query('select from idempotency_records where id = $1 for update', [busy.id]);
  const completing = narrow.complete(busy, anAnswer(), HOUR, IN_TIME);
  await bench.somebodyWaitsForALock();
  const renewing = narrow.renew([renewal(next)], IN_TIME); // waits for the only connection
  const beginning = begun(narrow, next, { isolation: 'REPEATABLE READ' });
  for (let n = 0; n < 20; n += 1) await bench.pool.query('select');
  await blocker.query('commit');
  blocker.release();
  await completing;
  expect(await renewing).toEqual([next.id]);
  const held = await beginning;
  expect(sent.slice(-3)).toEqual(['idempotency_renew', 'idempotency_begin_repeatable_read', 'idempotency_hold_or_fail']);
  expect(await held.commit(answering(next))).toEqual({ kind: 'committed' });
});

it('is one transaction’s or one rival’s, never both’s', async () => {
  for (let round = 0; round < 30; round += 1) {
    const contested = await owned(store);
    await bench.alter(contested.id, LEASE_PASSED);
    const second = aClaim(contested.identity);
    const result = await rival.claim(second, IN_TIME);
    if (result.kind !== 'found') throw new Error('The key was free.');
    const gate = barrier(2);
    const [held, taken] = await Promise.all([
      gate.arrive().then(() => store.transaction(contested, settings({ isolation: round % 2 ? 'REPEATABLE READ' : undefined }))),
      gate.arrive().then(() => rival.takeOver(second, result.record, IN_TIME)),
    ]);
    expect([held !== undefined, taken.kind === 'taken']).toEqual(held === undefined ? [false, true] : [true, false]);
    await held?.rollBack();
  }
});
