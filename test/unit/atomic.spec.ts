/** How the engine goes about an execution whose rows and record commit together. */
import { describe, expect, it } from '@jest/globals';
import { StoreUnavailable } from '../../lib/contract/errors.js';
import type { CommitResult, RecordTransaction } from '../../lib/contract/transaction.js';
import { isTransient } from '../../lib/engine/atomic.js';
import type { OwnedExecution } from '../../lib/engine/execution.js';
import type { Ending } from '../../lib/engine/verdict.js';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import { atRest } from '../support/manual-clock.js';
import { ANSWER, SECOND, aTransaction, anAdmission, anEngine, found, aRecord, gate, inTurn, outage } from './engine-fixture.js';
import type { EngineBench } from './engine-fixture.js';

const ATOMIC = { isolation: undefined, retries: 0 } as const;
const atomically = (settings = {}) => anAdmission({}, { atomic: ATOMIC, durableClaim: false, ...settings });
const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };
const UNDO: Ending = { ...KEEP, undo: true };
const FREE: Ending = { kind: 'free' };

/** An engine, an atomic execution on it, and what was asked of its transaction, in order. */
async function anAtomicExecution(
  transaction: Partial<RecordTransaction> = {},
  methods: Partial<IdempotencyStore> = {},
): Promise<EngineBench & { execution: OwnedExecution; asked: string[] }> {
  const asked: string[] = [];
  const bench = anEngine({ transaction: async () => aTransaction(transaction, asked), ...methods });
  return { ...bench, execution: await bench.run(atomically()), asked };
}

const commits = (result: CommitResult): Partial<RecordTransaction> => ({ commit: async () => result });
const refused = (transient: boolean): CommitResult => ({ kind: 'refused', transient, cause: new Error('refused') });
const unknown: CommitResult = { kind: 'unknown', cause: new Error('cut') };
const failing = async (): Promise<never> => Promise.reject(Object.assign(new Error('aborted'), { code: '25P02' }));

describe('the claim of an atomic execution', () => {
  it('has a short lease, which is renewed until the transaction holds the row, and not from then on', async () => {
    const opening = gate<RecordTransaction>();
    const bench = anEngine({ transaction: () => opening.promise });
    const running = bench.run(atomically({ leaseMs: 60 * SECOND }));
    await bench.clock.advance(4 * SECOND);
    const [claim] = bench.store.called('claim')[0]!;
    expect(claim.leaseMs).toBeLessThanOrEqual(5 * SECOND);
    const renewals = bench.store.called('renew').length;
    expect(renewals).toBeGreaterThan(2);
    opening.open(aTransaction());
    await running;
    await bench.clock.advance(60 * SECOND);
    expect(bench.store.called('renew')).toHaveLength(renewals);
  });

  it('of a shorter lease than that is no longer than the route has it', async () => {
    const { store, run } = anEngine();
    await run(atomically({ leaseMs: SECOND }));
    expect(store.called('claim')[0]![0].leaseMs).toBe(SECOND);
  });

  it('is given back when the transaction can’t begin', async () => {
    const { engine, store, clock, log } = anEngine({ transaction: async () => Promise.reject(outage()) });
    expect(await engine.begin(atomically())).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
    await clock.advance(0);
    expect(store.called('release')[0]![0].owner).toBe(store.called('claim')[0]![0].owner);
    expect(log.types).toEqual(['rejected']);
    await clock.advance(60 * SECOND);
    expect([store.called('renew').length, clock.pending]).toEqual([0, 0]);
  });

  it('that somebody has taken over before the transaction began is in use', async () => {
    const { engine, store, clock } = anEngine({ transaction: async () => undefined });
    expect(await engine.begin(atomically())).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } });
    await clock.advance(60 * SECOND);
    expect([store.called('release').length, store.called('renew').length, clock.pending]).toEqual([0, 0, 0]);
  });

  it('of a lost record whose transaction lives is in use: it is not taken over, nor gone round for', async () => {
    const { engine, store } = anEngine({ claim: async () => found(aRecord('lost')), takeOver: async () => ({ kind: 'held' }) });
    expect(await engine.begin(atomically())).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } });
    expect(store.called('takeOver')).toHaveLength(1);
  });
});

describe('while it runs', () => {
  it('the transaction is kept alive every third of the lease, by nothing else than that, and no longer than it lives', async () => {
    const { clock, engine, execution, asked } = await anAtomicExecution();
    await clock.advance(60 * SECOND);
    expect(asked).toEqual(['keepAlive', 'keepAlive', 'keepAlive']);
    await engine.settle(execution, KEEP);
    await clock.advance(600 * SECOND);
    expect(asked.slice(3)).toEqual(['commit complete']);
    expect(clock.pending).toBe(0);
  });

  it('another request with the key is in use, though the lease is over', async () => {
    const { engine, store, execution } = await anAtomicExecution();
    Object.assign(store, {
      claim: async () => found(aRecord('lost', { owner: execution.ownership.owner, fingerprint: execution.claim.fingerprint })),
    });
    const { identity, claim } = execution;
    const verdict = await engine.begin(anAdmission({ identity, fingerprint: claim.fingerprint }, { atomic: ATOMIC }));
    expect(verdict).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } });
    expect(store.called('takeOver')).toHaveLength(0);
  });
});

describe('its end', () => {
  it.each<[string, Ending, string, string]>([
    ['kept', KEEP, 'commit complete', 'completed'],
    ['kept, its rows not', UNDO, 'undo, complete', 'completed'],
    ['sealed', { kind: 'seal', status: 200, undo: false }, 'commit seal', 'sealed'],
    ['sealed, its rows not', { kind: 'seal', undo: true }, 'undo, seal', 'sealed'],
    ['free', FREE, 'undo, release', 'released'],
  ])('%s: is written in the transaction’s last trip, and leaves', async (_, ending, trip, event) => {
    const { engine, execution, asked, log, store } = await anAtomicExecution();
    expect(await engine.settle(execution, ending)).toEqual({ kind: 'send' });
    expect(asked).toEqual([trip]);
    expect(log.types).toEqual(['claimed', event]);
    expect(store.calls.map(({ method }) => method)).toEqual(['claim', 'transaction']);
  });

  it.each([
    [true, 503, 1],
    [false, 500, undefined],
  ])('whose COMMIT is refused (in passing: %p) is %d, and the key is given back', async (transient, status, retryAfter) => {
    const { engine, execution, store, log } = await anAtomicExecution(commits(refused(transient)));
    expect(await engine.settle(execution, KEEP)).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_TRANSACTION_FAILED', status, retryAfter },
    });
    expect(store.called('release')[0]![0].owner).toBe(execution.ownership.owner);
    expect(log.types).toEqual(['claimed', 'released', 'rejected']);
  });

  it('that can’t be written is refused, nothing is committed, and the key is given back', async () => {
    const { engine, execution, asked, store } = await anAtomicExecution({ commit: failing });
    expect(await engine.settle(execution, KEEP)).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_TRANSACTION_FAILED', status: 500 },
    });
    expect(asked).toEqual(['rollBack']);
    expect(store.called('release')).toHaveLength(1);
  });

  it('free, in a transaction that is broken, is the handler’s own answer all the same, and the key is given back', async () => {
    const { engine, execution, asked, store } = await anAtomicExecution({ undo: failing });
    expect(await engine.settle(execution, FREE)).toEqual({ kind: 'send' });
    expect(asked).toEqual(['rollBack']);
    expect(store.called('release')).toHaveLength(1);
  });

  it('of an owner that was superseded is rolled back, and its client is told that the key is in use', async () => {
    const { engine, execution, asked, log } = await anAtomicExecution(commits({ kind: 'superseded' }));
    expect(await engine.settle(execution, KEEP)).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } });
    expect(asked).toEqual([]);
    expect(log.types).toContain('lock-lost');
    expect(execution.isLost).toBe(true);
  });

  describe('of which nobody knows whether it came through', () => {
    it('leaves when the row says that it did', async () => {
      const { engine, execution, store, log } = await anAtomicExecution(commits(unknown), { outcomeOf: async () => 'committed' });
      expect(await engine.settle(execution, KEEP)).toEqual({ kind: 'send' });
      expect(store.called('release')).toHaveLength(0);
      expect(log.types).toEqual(['claimed', 'completed']);
    });

    it('is 503 when the row says that it did not, and the key is given back', async () => {
      const { engine, execution, store } = await anAtomicExecution(commits(unknown), { outcomeOf: async () => 'rolled-back' });
      expect(await engine.settle(execution, KEEP)).toMatchObject({
        kind: 'refuse',
        error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', status: 503 },
      });
      expect(store.called('release')).toHaveLength(1);
    });

    it.each<[string, IdempotencyStore['outcomeOf']]>([
      ['when its backend does not let go', async () => undefined],
      ['when Postgres can’t be asked', async () => Promise.reject(outage())],
    ])('is 503 %s, and the key stays taken', async (_, outcomeOf) => {
      const { engine, execution, store, log } = await anAtomicExecution(commits(unknown), { outcomeOf });
      expect(await engine.settle(execution, KEEP)).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
      expect(store.called('release')).toHaveLength(0);
      expect(log.types).toEqual(['claimed', 'store-failed', 'rejected']);
    });
  });
});

describe('a handler that is to be repeated', () => {
  it('has a new transaction, and the old one is gone without a trace', async () => {
    const [first, second]: [string[], string[]] = [[], []];
    const transaction = inTurn<RecordTransaction | undefined>(aTransaction({}, first), aTransaction({}, second));
    const { engine, run } = anEngine({ transaction });
    const execution = await run(atomically());
    expect(await engine.restart(execution)).toBe(true);
    expect([first, execution.runs]).toEqual([['rollBack'], 2]);
    expect(await engine.settle(execution, KEEP)).toEqual({ kind: 'send' });
    expect([first, second]).toEqual([['rollBack'], ['commit complete']]);
  });

  it('is not, when the claim was lost meanwhile', async () => {
    const { engine, run } = anEngine({ transaction: inTurn<RecordTransaction | undefined>(aTransaction(), undefined) });
    const execution = await run(atomically());
    expect([await engine.restart(execution), execution.runs]).toEqual([false, 1]);
  });

  it('is not in plain mode', async () => {
    const { engine, run } = anEngine();
    expect(await engine.restart(await run())).toBe(false);
  });
});

describe('an execution within another one’s transaction', () => {
  const nested = async (host: Partial<RecordTransaction> = {}) => {
    const bench = await anAtomicExecution(host);
    const inner = await bench.run(anAdmission());
    return { ...bench, inner };
  };

  it('is written there, its lease is left alone from then on, and it is settled with the host', async () => {
    const { engine, execution, inner, asked, log, clock, store } = await nested();
    expect(await engine.settleWithin(execution, inner, KEEP)).toEqual({ kind: 'send' });
    expect(asked).toEqual(['write complete']);
    expect(log.types).toEqual(['claimed', 'claimed']);
    await clock.advance(60 * SECOND);
    expect(store.called('renew')).toHaveLength(0);
    await engine.settle(execution, KEEP);
    expect(log.types.slice(2).sort()).toEqual(['completed', 'completed']);
    expect(store.called('release')).toHaveLength(0);
  });

  it.each<[string, Ending, Partial<RecordTransaction>]>([
    ['is free', FREE, {}],
    ['is kept without its rows', UNDO, {}],
    ['can’t be committed', KEEP, commits(refused(false))],
  ])('is given back when the host %s', async (_, ending, host) => {
    const { engine, execution, inner, store } = await nested(host);
    await engine.settleWithin(execution, inner, KEEP);
    await engine.settle(execution, ending);
    expect(store.called('release').map(([{ owner }]) => owner)).toContain(inner.ownership.owner);
  });

  it('stays as it is when nobody knows what became of the host', async () => {
    const bench = await anAtomicExecution(commits(unknown), { outcomeOf: async () => undefined });
    const inner = await bench.run(anAdmission());
    await bench.engine.settleWithin(bench.execution, inner, KEEP);
    await bench.engine.settle(bench.execution, KEEP);
    expect(bench.store.called('release')).toHaveLength(0);
    expect(bench.log.types.filter((type) => type === 'store-failed')).toHaveLength(2); // the host's key is in doubt, and its own
  });

  it('is given back at once when it fails by itself, and the host goes on', async () => {
    const { engine, execution, inner, store, asked } = await nested();
    expect(await engine.settleWithin(execution, inner, FREE)).toEqual({ kind: 'send' });
    expect(store.called('release')[0]![0].owner).toBe(inner.ownership.owner);
    expect(asked).toEqual([]);
  });
});

describe('closing', () => {
  it('rolls back what still runs, and leaves no timer', async () => {
    const { engine, clock, asked } = await anAtomicExecution();
    const draining = engine.drain(0);
    await clock.advance(0);
    await draining;
    await engine.close();
    expect(asked).toEqual(['rollBack']);
    expect(clock.pending).toBe(0);
  });
});

describe('an execution without a key', () => {
  it('has a transaction that holds nothing and records nothing', async () => {
    const asked: string[] = [];
    const { engine, store, log } = anEngine({ transaction: async () => aTransaction({}, asked) });
    const { settings, handler } = atomically();
    const execution = await engine.beginUnkeyed(settings, ATOMIC, handler);
    expect(store.called('transaction')[0]![1].holdsRecord).toBe(false);
    expect(await engine.settle(execution, KEEP)).toEqual({ kind: 'send' });
    expect(asked).toEqual(['commit']);
    expect(log.types).toEqual([]);
    await atRest();
  });

  it('is refused without Postgres, and while the application closes', async () => {
    const { engine, clock } = anEngine({ transaction: async () => Promise.reject(outage()) });
    const { settings, handler } = atomically();
    await expect(engine.beginUnkeyed(settings, ATOMIC, handler)).rejects.toBeInstanceOf(StoreUnavailable);
    const draining = engine.drain(0);
    await clock.advance(0);
    await draining;
    await expect(engine.beginUnkeyed(settings, ATOMIC, handler)).rejects.toBeInstanceOf(StoreUnavailable);
  });
});

describe('isTransient', () => {
  it.each<[boolean, string, unknown]>([
    [true, 'a serialization failure', { code: '40001' }],
    [true, 'a deadlock', { code: '40P01' }],
    [true, 'one that TypeORM has wrapped', { driverError: { code: '40001' } }],
    [true, 'one that is the cause of another', new Error('outer', { cause: new Error('inner', { cause: { code: '40P01' } }) })],
    [false, 'another error of Postgres', { code: '23505' }],
    [false, 'a number', 40001],
    [false, 'nothing', undefined],
  ])('%p: %s', (transient, _, error) => {
    expect(isTransient(error)).toBe(transient);
  });

  it('comes to an end with errors that are their own cause', () => {
    const loop = new Error('loop');
    loop.cause = loop;
    expect(isTransient(loop)).toBe(false);
  });
});
