import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isIdempotencyError } from '../../lib/contract/errors.js';
import type { Claim, ClaimResult, FoundRecord } from '../../lib/contract/record.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { barrier } from '../support/barrier.js';
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
  renewal,
  type Bench,
} from './store-fixture.js';

let bench: Bench;
let store: PostgresStore;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
});
afterAll(() => bench.close());

const found = (result: ClaimResult): FoundRecord => {
  if (result.kind !== 'found') throw new Error('The key was free.');
  return result.record;
};
const again = (first: { identity: ReturnType<typeof anIdentity> }) => aClaim(first.identity);

/** As many processes as `size`, each with connections of its own that are open already. */
async function processes(size: number, connection = {}): Promise<PostgresStore[]> {
  const stores = Array.from({ length: size }, () =>
    bench.store({ poolSize: 4, connection: { connectionString: bench.url, ...connection } }),
  );
  await Promise.all(stores.map((each) => each.inspect()));
  return stores;
}

describe('claim', () => {
  it('becomes the owner of a free key, as attempt 1', async () => {
    expect(await store.claim(aClaim(), IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it.each([true, false])('lets exactly one of twenty simultaneous claims through, over five pools (durable: %s)', async (durable) => {
    const stores = await processes(5);
    for (let round = 0; round < 10; round += 1) {
      const identity = anIdentity();
      const gate = barrier(20);
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, n) =>
          gate.arrive().then(async () => {
            const claim = aClaim(identity, { durable });
            return { claim, result: await stores[n % 5]!.claim(claim, IN_TIME) };
          }),
        ),
      );
      const winners = results.filter(({ result }) => result.kind === 'claimed');
      expect(winners).toHaveLength(1);
      for (const { result } of results.filter((each) => !winners.includes(each))) {
        expect(result).toMatchObject({ kind: 'found', record: { state: 'running', owner: winners[0]!.claim.owner } });
      }
    }
  });

  it('does so where the database makes every transaction serialisable', async () => {
    const stores = await processes(5, { options: '-c default_transaction_isolation=serializable' });
    for (let round = 0; round < 10; round += 1) {
      const identity = anIdentity();
      const gate = barrier(20);
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, n) => gate.arrive().then(() => stores[n % 5]!.claim(aClaim(identity), IN_TIME))),
      );
      expect(results.filter(({ kind }) => kind === 'claimed')).toHaveLength(1);
    }
  });

  it('finds a running record with its owner, fingerprint and what is left of its lease', async () => {
    const first = await owned(store, aClaim(anIdentity(), { leaseMs: HOUR }));
    const record = found(await store.claim(again(first), IN_TIME));
    expect(record).toEqual({
      state: 'running',
      owner: first.owner,
      fingerprint: first.fingerprint,
      retentionLeftMs: expect.any(Number),
      attempt: 1,
      leaseLeftMs: expect.any(Number),
    });
    const { leaseLeftMs } = record as { leaseLeftMs: number };
    expect(leaseLeftMs).toBeGreaterThan(0);
    expect(leaseLeftMs).toBeLessThanOrEqual(HOUR);
  });

  it('tells what is left of the retention: as planned while it runs, and as it was settled afterwards', async () => {
    const leftOf = async (claim: Claim): Promise<number> => found(await store.claim(again(claim), IN_TIME)).retentionLeftMs;
    const first = await owned(store, aClaim(anIdentity(), { retentionMs: 10 * HOUR }));
    const planned = await leftOf(first);
    expect([planned > 9 * HOUR, planned <= 10 * HOUR]).toEqual([true, true]);
    await bench.alter(first.id, `reap_after = now() - interval '1 h'`);
    expect(await leftOf(first)).toBeLessThan(0);
    await store.seal(first, 200, HOUR, IN_TIME);
    const settled = await leftOf(first);
    expect([settled > 0, settled <= HOUR]).toEqual([true, true]);
  });

  it('finds a record whose lease has passed to be lost', async () => {
    const first = await owned(store);
    await bench.alter(first.id, LEASE_PASSED);
    expect(found(await store.claim(again(first), IN_TIME))).toEqual({
      state: 'lost',
      owner: first.owner,
      fingerprint: first.fingerprint,
      retentionLeftMs: expect.any(Number),
      attempt: 1,
    });
  });

  it('finds a completed record with its answer', async () => {
    const first = await completed(store);
    expect(found(await store.claim(again(first), IN_TIME))).toEqual({
      state: 'completed',
      owner: first.owner,
      fingerprint: first.fingerprint,
      retentionLeftMs: expect.any(Number),
      attempt: 1,
      answer: anAnswer(),
    });
  });

  it.each(['sealed', 'open'] as const)('finds a record to be %s', async (state) => {
    const first = await owned(store);
    await store.seal(first, 200, HOUR, IN_TIME);
    if (state === 'open') await bench.alter(first.id, 'state = 3');
    expect(found(await store.claim(again(first), IN_TIME))).toEqual({
      state,
      owner: first.owner,
      fingerprint: first.fingerprint,
      retentionLeftMs: expect.any(Number),
      attempt: 1,
    });
  });

  it.each([
    ['is committed', 'commit', { kind: 'found', record: { state: 'running' } }],
    ['is undone', 'rollback', { kind: 'claimed', attempt: 1 }],
  ])('waits for a claim that is being made, and asks once more when that %s', async (_, end, expected) => {
    const sent: string[] = [];
    const counted = bench.store({ onStatement: (name) => sent.push(name) });
    const identity = anIdentity();
    const other = await bench.pool.connect();
    await other.query('begin');
    await other.query(
      `insert into idempotency_records (id, scope, operation, key, fingerprint, owner, state, attempt, created_at, locked_until, reap_after)
       values ($1, $2, $3, $4, '', gen_random_uuid(), 0, 1, now(), now() + interval '1 min', now())`,
      [identity.id, identity.scope, identity.operation, identity.key],
    );
    const claiming = counted.claim(aClaim(identity), IN_TIME);
    await bench.somebodyWaitsForALock();
    await other.query(end);
    other.release();
    expect(await claiming).toMatchObject(expected);
    expect(sent).toEqual(end === 'commit' ? ['idempotency_claim', 'idempotency_claim'] : ['idempotency_claim']);
  });

  it('recognises its own token when it is sent a second time', async () => {
    const first = await owned(store);
    expect(await store.claim(first, IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it.each(['completed', 'sealed', 'open'] as const)('makes a fresh claim of an expired %s record', async (state) => {
    const first = await completed(store);
    await bench.alter(first.id, `state = ${{ completed: 1, sealed: 2, open: 3 }[state]}, attempt = 7, ${EXPIRED}`);
    const second = again(first);
    expect(await store.claim(second, IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });
    expect(found(await store.claim(again(first), IN_TIME))).toMatchObject({
      state: 'running',
      owner: second.owner,
      fingerprint: second.fingerprint,
    });
    expect(
      await bench.count(
        `id = '${first.id}' and body is null and headers is null and status is null and reap_after > now() + interval '23 h'`,
      ),
    ).toBe(1);
  });

  it('lets exactly one of twenty have an expired key', async () => {
    const stores = await processes(5);
    const first = await completed(store);
    await bench.alter(first.id, EXPIRED);
    const gate = barrier(20);
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) => gate.arrive().then(() => stores[n % 5]!.claim(again(first), IN_TIME))),
    );
    expect(results.filter(({ kind }) => kind === 'claimed')).toHaveLength(1);
    expect(results.filter((result) => result.kind === 'found' && result.record.state === 'running')).toHaveLength(19);
  });

  it.each(['scope', 'operation', 'key'] as const)('refuses a record with another %s under the same digest', async (column) => {
    const first = await completed(store);
    const other = aClaim({ ...first.identity, [column]: 'another' });
    await expect(store.claim(other, IN_TIME)).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD_UNREADABLE' });
    await expect(store.find(other.identity)).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD_UNREADABLE' });
    await expect(store.forget(other.identity)).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD_UNREADABLE' });
    expect(await bench.count(`id = '${first.id}'`)).toBe(1);
  });

  it.each([
    ['a state of a later version', 'state = 9'],
    ['headers that are no JSON', `headers = '\\x00'`],
    ['headers of another form', `headers = '{"a":1}'`],
    ['a header without a value', `headers = '[["a"]]'`],
    ['no body', 'body = null'],
    ['no status', 'status = null'],
  ])('refuses a record with %s', async (_, assignment) => {
    const first = await completed(store);
    await bench.alter(first.id, assignment);
    const refusal = await store.claim(again(first), IN_TIME).catch((error: unknown) => error);
    expect(isIdempotencyError(refusal) && refusal.code).toBe('IDEMPOTENCY_RECORD_UNREADABLE');
  });
});

describe('takeOver', () => {
  it('lets exactly one of twenty have a lost record, as the next attempt under the first fingerprint', async () => {
    const stores = await processes(5);
    const first = await owned(store);
    await bench.alter(first.id, LEASE_PASSED);
    const lost = found(await store.claim(again(first), IN_TIME));
    const gate = barrier(20);
    const claims = Array.from({ length: 20 }, () => again(first));
    const results = await Promise.all(claims.map((claim, n) => gate.arrive().then(() => stores[n % 5]!.takeOver(claim, lost, IN_TIME))));
    expect(results.filter(({ kind }) => kind === 'taken')).toEqual([{ kind: 'taken', attempt: 2 }]);
    const winner = claims[results.findIndex(({ kind }) => kind === 'taken')]!;
    expect(found(await store.claim(again(first), IN_TIME))).toMatchObject({
      state: 'running',
      owner: winner.owner,
      attempt: 2,
      fingerprint: first.fingerprint,
      retentionLeftMs: expect.any(Number),
    });
  });

  it('resumes an open record', async () => {
    const first = await owned(store);
    await store.seal(first, undefined, HOUR, IN_TIME);
    await bench.alter(first.id, 'state = 3');
    const open = found(await store.claim(again(first), IN_TIME));
    expect(await store.takeOver(again(first), open, IN_TIME)).toEqual({ kind: 'taken', attempt: 2 });
    expect(await bench.count(`id = '${first.id}' and state = 0 and expires_at is null and completed_at is null`)).toBe(1);
  });

  it('leaves a record alone that somebody else has taken over, though lost again by now', async () => {
    const first = await owned(store);
    await bench.alter(first.id, LEASE_PASSED);
    const lost = found(await store.claim(again(first), IN_TIME));
    await store.takeOver(again(first), lost, IN_TIME);
    await bench.alter(first.id, LEASE_PASSED);
    expect(await store.takeOver(again(first), lost, IN_TIME)).toEqual({ kind: 'changed' });
  });

  it('leaves a record alone that its late owner has completed, renewed or released', async () => {
    for (const end of [
      (claim: ReturnType<typeof aClaim>) => store.complete(claim, anAnswer(), HOUR, IN_TIME),
      (claim: ReturnType<typeof aClaim>) => store.renew([renewal(claim)], IN_TIME),
      (claim: ReturnType<typeof aClaim>) => store.release(claim, HOUR, IN_TIME),
    ]) {
      const first = await owned(store);
      await bench.alter(first.id, LEASE_PASSED);
      const lost = found(await store.claim(again(first), IN_TIME));
      await end(first);
      expect(await store.takeOver(again(first), lost, IN_TIME)).toEqual({ kind: 'changed' });
    }
  });

  it('recognises its own token when it is sent a second time', async () => {
    const first = await owned(store);
    await bench.alter(first.id, LEASE_PASSED);
    const lost = found(await store.claim(again(first), IN_TIME));
    const second = again(first);
    expect(await store.takeOver(second, lost, IN_TIME)).toEqual({ kind: 'taken', attempt: 2 });
    expect(await store.takeOver(second, lost, IN_TIME)).toEqual({ kind: 'taken', attempt: 2 });
  });
});

describe('the budget', () => {
  it('is two statements for a first request and one for a replay or a refusal', async () => {
    const sent: string[] = [];
    const counted = bench.store({ onStatement: (name) => sent.push(name) });
    const claim = aClaim();
    await counted.claim(claim, IN_TIME);
    await counted.complete(claim, anAnswer(), HOUR, IN_TIME);
    expect(sent.splice(0)).toEqual(['idempotency_claim', 'idempotency_complete']);

    await counted.claim(again(claim), IN_TIME);
    expect(sent.splice(0)).toEqual(['idempotency_claim']);

    const running = await owned(counted, aClaim(anIdentity(), { durable: false }));
    await counted.claim(again(running), IN_TIME);
    expect(sent.splice(0)).toEqual(['idempotency_claim_unflushed', 'idempotency_claim']);
  });

  it('is one more for a record that is taken over, or whose time is over', async () => {
    const sent: string[] = [];
    const counted = bench.store({ onStatement: (name) => sent.push(name) });
    const [lost, old] = [await owned(store), await completed(store)];
    await bench.alter(lost.id, LEASE_PASSED);
    await bench.alter(old.id, EXPIRED);

    const claim = again(lost);
    await counted.takeOver(claim, found(await counted.claim(claim, IN_TIME)), IN_TIME);
    expect(sent.splice(0)).toEqual(['idempotency_claim', 'idempotency_take_over']);
    await counted.claim(again(old), IN_TIME);
    expect(sent.splice(0)).toEqual(['idempotency_claim', 'idempotency_take_expired']);
  });

  it('is neither a row lock nor a row version for a replay', async () => {
    const first = await completed(store);
    const row = async (): Promise<unknown> =>
      (await bench.pool.query('select xmin, xmax, ctid from idempotency_records where id = $1', [first.id])).rows;
    const before = await row();
    await store.claim(again(first), IN_TIME);
    expect(await row()).toEqual(before);
  });
});
