import { describe, expect, it } from '@jest/globals';
import { StoreUnavailable } from '../../lib/contract/errors.js';
import type { ClaimResult, Released, Settled } from '../../lib/contract/record.js';
import type { Ending } from '../../lib/engine/verdict.js';
import { atRest } from '../support/manual-clock.js';
import { ANSWER, CLAIMED, SECOND, anAdmission, anEngine, aRecord, found, gate, inTurn, outage } from './engine-fixture.js';

const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };
const SETTLED: Settled = { kind: 'settled' };

describe('Postgres away at a claim', () => {
  it('is 503 with a wait, and store-failed with its cause', async () => {
    const cause = new Error('connect ECONNREFUSED');
    const { engine, log } = anEngine({ claim: async () => Promise.reject(Object.assign(outage(), { cause })) });
    expect(await engine.begin(anAdmission())).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', status: 503, retryAfter: 1 },
    });
    expect(log.types).toEqual(['store-failed', 'rejected']);
    expect(log.causes[0]).toBe(cause);
  });

  it('is so as well where the store fails before there is anything to wait for, and holds up no shutdown', async () => {
    const { engine } = anEngine({
      claim: () => {
        throw outage();
      },
    });
    const admission = anAdmission();
    for (const verdict of [await engine.begin(admission), await engine.begin(admission)])
      expect(verdict).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' } });
    await engine.drain(SECOND);
  });

  it('is an unprotected run where the route has chosen that, and just as loud', async () => {
    const { engine, log } = anEngine({ claim: async () => Promise.reject(outage()) });
    expect(await engine.begin(anAdmission({}, { onStoreFailure: 'bypass' }))).toEqual({ kind: 'bypass' });
    expect(log.types).toEqual(['store-failed']);
  });

  it.each(['reject', 'bypass'] as const)(
    'takes the claim back by its token, which may have arrived all the same (%s)',
    async (onStoreFailure) => {
      const { engine, store, clock } = anEngine({ claim: async () => Promise.reject(outage()) });
      await engine.begin(anAdmission({}, { onStoreFailure }));
      await clock.advance(0);
      const [claim] = store.called('claim')[0]!;
      expect(store.called('release').map(([{ id, owner }]) => ({ id, owner }))).toEqual([{ id: claim.id, owner: claim.owner }]);
      expect(clock.pending).toBe(0);
    },
  );

  it('does not look for a claim that has never left: however many came meanwhile, nothing is left to be done', async () => {
    const refused = new StoreUnavailable({ cause: new Error('connect ECONNREFUSED'), unsent: true });
    const { engine, store, clock } = anEngine({ claim: async () => Promise.reject(refused) });
    await engine.begin(anAdmission());
    await clock.advance(60 * SECOND);
    expect([store.called('release').length, clock.pending]).toEqual([0, 0]);
  });

  it('takes a take-over back, too', async () => {
    const { engine, store, clock } = anEngine({
      claim: async () => found(aRecord('lost')),
      takeOver: async () => Promise.reject(outage()),
    });
    await engine.begin(anAdmission());
    await clock.advance(0);
    expect(store.called('release')[0]![0].owner).toBe(store.called('takeOver')[0]![0].owner);
  });

  it('takes it back again and again until a row was removed: the claim may arrive after the release did', async () => {
    const { engine, store, clock } = anEngine({
      claim: async () => Promise.reject(outage()),
      release: inTurn<Released>(outage(), 'absent', 'absent', 'freed', 'absent'),
    });
    await engine.begin(anAdmission());
    await clock.advance(60 * SECOND);
    expect(store.called('release')).toHaveLength(4);
    expect(clock.pending).toBe(0);
  });

  it('stops trying when the lease of that claim is over anyway', async () => {
    const { engine, store, clock } = anEngine({ claim: async () => Promise.reject(outage()), release: async () => 'absent' });
    await engine.begin(anAdmission({}, { leaseMs: 10 * SECOND }));
    await clock.advance(10 * SECOND);
    const tries = store.called('release').length;
    expect(tries).toBeGreaterThan(5);
    await clock.advance(60 * SECOND);
    expect(store.called('release')).toHaveLength(tries);
    expect(clock.pending).toBe(0);
  });

  it('keeps nobody else’s request from running', async () => {
    const bench = anEngine({ claim: inTurn<ClaimResult>(outage(), CLAIMED) });
    const admission = anAdmission();
    await bench.engine.begin(admission);
    expect(await bench.engine.begin(admission)).toMatchObject({ kind: 'run' });
  });
});

describe('Postgres away at a completion', () => {
  it('is waited for: tried again, less and less often, and the answer leaves after the record', async () => {
    const bench = anEngine({ complete: inTurn<Settled>(outage(), outage(), outage(), SETTLED) });
    const execution = await bench.run();
    let left = false;
    const settling = bench.engine.settle(execution, KEEP).then((settlement) => {
      left = true;
      return settlement;
    });
    await bench.clock.advance(49);
    expect([left, bench.store.called('complete').length]).toEqual([false, 1]);
    await bench.clock.advance(1);
    expect(bench.store.called('complete')).toHaveLength(2);
    await bench.clock.advance(99);
    expect(bench.store.called('complete')).toHaveLength(2);
    await bench.clock.advance(SECOND);
    expect(await settling).toEqual({ kind: 'send' });
    expect(bench.log.types).toEqual(['claimed', 'completed']);
  });

  it('is tried again where the write has failed before it was sent, as a cipher may', async () => {
    const complete = inTurn<Settled>(SETTLED);
    let tries = 0;
    const bench = anEngine({
      complete: () => {
        tries += 1;
        if (tries === 1) throw outage();
        return complete();
      },
    });
    const settling = bench.engine.settle(await bench.run(), KEEP);
    await bench.clock.advance(SECOND);
    expect([await settling, tries]).toEqual([{ kind: 'send' }, 2]);
    expect(bench.log.types).toEqual(['claimed', 'completed']);
  });

  it('gives each try what is left of the route’s time', async () => {
    const bench = anEngine({ complete: inTurn<Settled>(outage(), SETTLED) });
    const execution = await bench.run(anAdmission({}, { storeTimeoutMs: 5 * SECOND }));
    const settling = bench.engine.settle(execution, KEEP);
    await bench.clock.advance(50);
    await settling;
    expect(bench.store.called('complete').map(([, , , withinMs]) => withinMs)).toEqual([5 * SECOND, 5 * SECOND - 50]);
  });

  it('lets the answer leave once the route’s time is over, and says so', async () => {
    const bench = anEngine({ complete: async () => Promise.reject(outage()) });
    const execution = await bench.run(anAdmission({}, { storeTimeoutMs: 5 * SECOND }));
    const settling = bench.engine.settle(execution, KEEP);
    await bench.clock.advance(5 * SECOND);
    expect(await settling).toEqual({ kind: 'send' });
    expect(bench.log.types).toEqual(['claimed', 'store-failed']);
  });

  it('goes on in the background while the lease lasts, so that a retry still gets that answer', async () => {
    let away = true;
    const bench = anEngine({ complete: async () => (away ? Promise.reject(outage()) : SETTLED) });
    const execution = await bench.run(anAdmission({}, { storeTimeoutMs: 5 * SECOND, leaseMs: 60 * SECOND }));
    const settling = bench.engine.settle(execution, KEEP);
    await bench.clock.advance(5 * SECOND);
    await settling;
    await bench.clock.advance(30 * SECOND);
    away = false;
    await bench.clock.advance(SECOND);
    const tries = bench.store.called('complete').length;
    expect(bench.store.called('complete').at(-1)?.[1]).toBe(ANSWER);
    expect(bench.log.types.at(-1)).toBe('completed');
    await bench.clock.advance(600 * SECOND);
    expect(bench.store.called('complete')).toHaveLength(tries);
    expect(bench.clock.pending).toBe(0);
  });

  it('waits in the background, too, no longer than the route’s time for one try', async () => {
    const bench = anEngine({
      complete: async () => Promise.reject(outage()),
      claim: inTurn<ClaimResult>(CLAIMED, outage()),
      release: async () => 'absent',
    });
    const settling = bench.engine.settle(await bench.run(anAdmission({}, { storeTimeoutMs: 5 * SECOND, leaseMs: 60 * SECOND })), KEEP);
    await bench.engine.begin(anAdmission({}, { storeTimeoutMs: 5 * SECOND, leaseMs: 60 * SECOND }));
    await bench.clock.advance(30 * SECOND);
    await settling;
    for (const [, , , withinMs] of bench.store.called('complete')) expect(withinMs).toBeLessThanOrEqual(5 * SECOND);
    for (const [, , withinMs] of bench.store.called('release')) expect(withinMs).toBeLessThanOrEqual(5 * SECOND);
  });

  it('in the background, too, hears of it when somebody has taken the key over', async () => {
    const bench = anEngine({ complete: inTurn<Settled>(outage(), { kind: 'superseded', record: undefined }) });
    const execution = await bench.run(anAdmission({}, { storeTimeoutMs: 1 }));
    await bench.engine.settle(execution, KEEP);
    await bench.clock.advance(SECOND);
    expect(bench.log.types).toEqual(['claimed', 'store-failed', 'lock-lost']);
  });

  it('still counts as this process’s own work meanwhile: a retry here waits rather than running it again', async () => {
    const bench = anEngine({ complete: async () => Promise.reject(outage()) });
    const admission = anAdmission({}, { storeTimeoutMs: 1 });
    const { ownership } = await bench.run(admission).then(async (execution) => {
      await bench.engine.settle(execution, KEEP);
      return execution;
    });
    Object.assign(bench.store, { claim: async () => found(aRecord('lost', { owner: ownership.owner })) });
    expect(await bench.engine.begin(admission)).toMatchObject({ error: { code: 'IDEMPOTENCY_KEY_IN_USE' } });
  });

  it('gives the key up for lost after a lease without success', async () => {
    const bench = anEngine({ complete: async () => Promise.reject(outage()) });
    const admission = anAdmission({}, { storeTimeoutMs: 5 * SECOND, leaseMs: 60 * SECOND });
    const execution = await bench.run(admission);
    const settling = bench.engine.settle(execution, KEEP);
    await bench.clock.advance(65 * SECOND);
    await settling;
    const calls = bench.store.calls.length;
    await bench.clock.advance(600 * SECOND);
    expect(bench.store.calls).toHaveLength(calls);
    expect(bench.clock.pending).toBe(0);
    Object.assign(bench.store, { claim: async () => found(aRecord('lost', { owner: execution.ownership.owner })) });
    expect(await bench.engine.begin(admission)).toMatchObject({ kind: 'run', execution: { attempt: 2 } });
  });

  it('a release whose first answer was lost is no loss of the lease: the row is gone because it did arrive', async () => {
    const bench = anEngine({ release: inTurn<Released>(outage(), 'absent') });
    const settling = bench.engine.settle(await bench.run(), { kind: 'free' });
    await bench.clock.advance(SECOND);
    expect(await settling).toEqual({ kind: 'send' });
    expect(bench.log.types).toEqual(['claimed', 'released']);
  });

  it('a release that finds nothing at its first try belongs to a superseded owner', async () => {
    const bench = anEngine({ release: async () => 'absent' });
    expect(await bench.engine.settle(await bench.run(), { kind: 'free' })).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_KEY_IN_USE' },
    });
    expect(bench.log.types).toContain('lock-lost');
  });
});

describe('stop', () => {
  it('lets the try that is under way end, and makes no other one', async () => {
    const answers = [gate<Settled>(), gate<Settled>()];
    let tries = 0;
    const bench = anEngine({ complete: () => answers[tries++]!.promise });
    const settling = bench.engine.settle(await bench.run(anAdmission({}, { storeTimeoutMs: 5 * SECOND })), KEEP);
    await bench.clock.advance(5 * SECOND);
    answers[0]!.fail(outage());
    await settling;
    await atRest();
    let closed = false;
    const closing = bench.engine.close().then(() => (closed = true));
    await atRest();
    expect([tries, closed]).toEqual([2, false]);
    answers[1]!.fail(outage());
    await closing;
    expect([tries, bench.clock.pending]).toEqual([2, 0]);
  });
});
