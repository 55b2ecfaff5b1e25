import { describe, expect, it, jest } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { RecordUnreadable } from '../../lib/contract/errors.js';
import type { RecordState, Released, Settled } from '../../lib/contract/record.js';
import { identify } from '../../lib/engine/key.js';
import type { Ending, Verdict } from '../../lib/engine/verdict.js';
import { ANSWER, SECOND, aRecord, anAdmission, anEngine, CLAIMED, found, gate, inTurn, outage } from './engine-fixture.js';
import { atRest } from '../support/manual-clock.js';

const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };

/** `run`, `replay`, or the code of the refusal. */
const wordOf = (verdict: Verdict): string => (verdict.kind === 'refuse' ? verdict.error.code : verdict.kind);

describe('begin', () => {
  it('runs a request whose key is free, as its first attempt', async () => {
    const { engine, store, log } = anEngine();
    const admission = anAdmission();
    const verdict = await engine.begin(admission);

    expect(verdict).toMatchObject({ kind: 'run', execution: { attempt: 1, identity: admission.identity } });
    expect(store.calls.map(({ method }) => method)).toEqual(['claim']);
    expect(log.events).toMatchObject([{ type: 'claimed', handler: 'Payments.create', operation: '', attempt: 1 }]);
  });

  it('claims with the route’s lease and retention, within its time for the store, under a token that is new each time', async () => {
    const { engine, store } = anEngine();
    const admission = anAdmission({}, { leaseMs: 7, retentionMs: 8, durableClaim: false, storeTimeoutMs: 9 });
    await engine.begin(admission);
    await engine.begin({ ...admission, identity: identify('id=1', '', 'another key') });

    const [[first, withinMs], [second]] = store.called('claim') as [Parameters<typeof store.claim>, Parameters<typeof store.claim>];
    expect(first).toMatchObject({ id: admission.identity.id, identity: admission.identity, leaseMs: 7, retentionMs: 8, durable: false });
    expect(withinMs).toBe(9);
    expect(first.owner).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(first.owner).not.toBe(second.owner);
  });

  describe.each(['rerun', 'reject'] as const)('with onLostExecution: %j', (onLostExecution) => {
    const lost = onLostExecution === 'rerun' ? 'run' : 'IDEMPOTENCY_OUTCOME_UNKNOWN';

    it.each<[RecordState, string]>([
      ['running', 'IDEMPOTENCY_KEY_IN_USE'],
      ['lost', lost],
      ['open', 'run'],
      ['completed', 'replay'],
      ['sealed', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
    ])('a %s record of the same request: %s', async (state, expected) => {
      const { engine } = anEngine({ claim: async () => found(aRecord(state)) });
      expect(wordOf(await engine.begin(anAdmission({}, { onLostExecution })))).toBe(expected);
    });

    it.each<RecordState>(['running', 'lost', 'open', 'completed', 'sealed'])(
      'a %s record of another request: IDEMPOTENCY_KEY_REUSED, and nothing is touched',
      async (state) => {
        const { engine, store } = anEngine({ claim: async () => found(aRecord(state, { fingerprint: randomBytes(32) })) });
        const verdict = await engine.begin(anAdmission({}, { onLostExecution }));
        expect(verdict).toMatchObject({ kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_REUSED', status: 422 } });
        expect(store.calls.map(({ method }) => method)).toEqual(['claim']);
      },
    );
  });

  it('replays the very answer that is stored', async () => {
    const { engine, log } = anEngine({ claim: async () => found(aRecord('completed')) });
    expect(await engine.begin(anAdmission())).toEqual({ kind: 'replay', answer: ANSWER });
    expect(log.types).toEqual(['replayed']);
  });

  it('tells the route’s wait to a request that comes while the first one is running, and says so once', async () => {
    const { engine, log } = anEngine({ claim: async () => found(aRecord('running')) });
    expect(await engine.begin(anAdmission({}, { retryAfterMs: 3 * SECOND }))).toMatchObject({ error: { status: 409, retryAfter: 3 } });
    expect(log.events).toMatchObject([{ type: 'rejected', code: 'IDEMPOTENCY_KEY_IN_USE' }]);
  });

  it.each(['lost', 'open'] as const)('takes a %s record over under its own token, from the owner it was found under', async (state) => {
    const record = aRecord(state);
    const { engine, store, log } = anEngine({ claim: async () => found(record), takeOver: async () => ({ kind: 'taken', attempt: 3 }) });
    expect(await engine.begin(anAdmission())).toMatchObject({ kind: 'run', execution: { attempt: 3 } });

    const [claim, from] = store.called('takeOver')[0]!;
    expect(claim).toBe(store.called('claim')[0]![0]);
    expect(from).toBe(record);
    expect(log.events).toMatchObject([{ type: 'taken-over', attempt: 3 }]);
  });

  it('looks again when somebody else was faster to take a lost record over', async () => {
    const { engine, store } = anEngine({
      claim: inTurn(found(aRecord('lost')), found(aRecord('completed'))),
      takeOver: async () => ({ kind: 'changed' }),
    });
    expect(await engine.begin(anAdmission())).toMatchObject({ kind: 'replay' });
    expect(store.calls.map(({ method }) => method)).toEqual(['claim', 'takeOver', 'claim']);
  });

  it('answers “in use” rather than going round for ever where a crowd takes it over each time', async () => {
    const { engine, store } = anEngine({ claim: async () => found(aRecord('lost')), takeOver: async () => ({ kind: 'changed' }) });
    expect(wordOf(await engine.begin(anAdmission()))).toBe('IDEMPOTENCY_KEY_IN_USE');
    expect(store.called('takeOver').length).toBeGreaterThan(1);
    expect(store.called('takeOver').length).toBeLessThan(10);
  });

  it('refuses to take over what this very process is still at work on, whatever its lease says', async () => {
    const bench = anEngine({ renew: async () => Promise.reject(outage()) });
    const admission = anAdmission({}, { onLostExecution: 'rerun' });
    const { ownership } = await bench.run(admission);
    await bench.clock.advance(60 * SECOND);
    const again = anEngine();
    Object.assign(bench.store, { claim: async () => found(aRecord('lost', { owner: ownership.owner })) });

    expect(wordOf(await bench.engine.begin(admission))).toBe('IDEMPOTENCY_KEY_IN_USE');
    expect(bench.store.called('takeOver')).toHaveLength(0);
    // Another process knows nothing of it.
    Object.assign(again.store, { claim: async () => found(aRecord('lost', { owner: ownership.owner })) });
    expect(wordOf(await again.engine.begin(admission))).toBe('run');
  });

  it('takes over what another process lost while this one stood still at work on the same key under another token', async () => {
    const bench = anEngine({ renew: async () => Promise.reject(outage()) });
    const admission = anAdmission();
    await bench.run(admission);
    await bench.clock.advance(60 * SECOND);
    Object.assign(bench.store, { claim: async () => found(aRecord('lost')) });
    expect(wordOf(await bench.engine.begin(admission))).toBe('run');
  });

  it('refuses a record that can’t be read, without a second run', async () => {
    const { engine, store, log } = anEngine({ claim: async () => Promise.reject(new RecordUnreadable()) });
    expect(await engine.begin(anAdmission({}, { onStoreFailure: 'bypass' }))).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_RECORD_UNREADABLE', status: 500 },
    });
    expect(log.types).toEqual(['rejected']);
    await atRest();
    expect(store.called('release')).toHaveLength(0);
  });

  it('lets an error that is none of ours through', async () => {
    const bug = new TypeError('a bug');
    const { engine } = anEngine({ claim: async () => Promise.reject(bug) });
    await expect(engine.begin(anAdmission())).rejects.toBe(bug);
  });
});

describe('settle', () => {
  it.each<[Ending, string, string]>([
    [KEEP, 'complete', 'completed'],
    [{ kind: 'seal', status: 200, undo: false }, 'seal', 'sealed'],
    [{ kind: 'free' }, 'release', 'released'],
  ])('%j: %s, then the answer may leave', async (ending, method, event) => {
    const bench = anEngine();
    const execution = await bench.run();
    expect(await bench.engine.settle(execution, ending)).toEqual({ kind: 'send' });
    expect(bench.store.calls.at(-1)).toMatchObject({ method });
    expect(bench.store.calls.at(-1)?.args[0]).toMatchObject({ id: execution.ownership.id, owner: execution.ownership.owner });
    expect(bench.log.types).toEqual(['claimed', event]);
  });

  it('lets nothing leave before the store has said that it is safe', async () => {
    const written = gate<Settled>();
    const bench = anEngine({ complete: () => written.promise });
    let left = false;
    const settling = bench.engine.settle(await bench.run(), KEEP).then(() => (left = true));
    await atRest();
    expect(left).toBe(false);
    written.open({ kind: 'settled' });
    await settling;
    expect(left).toBe(true);
  });

  it.each<[string, Ending, 'release' | 'complete']>([
    ['free', { kind: 'free' }, 'release'],
    ['keep', KEEP, 'complete'],
  ])('(%s) waits for what is being recorded, whatever comes of it, and nothing more is recorded then', async (_, ending, method) => {
    const bench = anEngine();
    const execution = await bench.run();
    const [kept, failed] = [gate(), gate()];
    const recordings = [execution.recording(() => kept.promise), execution.recording(() => failed.promise)];
    const settling = bench.engine.settle(execution, ending);
    const late = jest.fn<() => Promise<void>>();
    await expect(execution.recording(late)).rejects.toMatchObject({ code: 'IDEMPOTENCY_EXECUTION_SUPERSEDED' });
    kept.open();
    await atRest();
    expect([late.mock.calls.length, bench.store.called(method).length]).toEqual([0, 0]);
    failed.fail(outage());
    await settling;
    expect(bench.store.called(method)).toHaveLength(1);
    await expect(Promise.all(recordings)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });

  it.each<[string, Settled, object]>([
    ['the new owner’s answer', { kind: 'superseded', record: aRecord('completed') }, { kind: 'replay', answer: ANSWER }],
    [
      '409 while the new owner runs',
      { kind: 'superseded', record: aRecord('running') },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE', retryAfter: 2 } },
    ],
    [
      '409 where the new owner is lost too',
      { kind: 'superseded', record: aRecord('lost') },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } },
    ],
    [
      '409 where the new owner was not replayable',
      { kind: 'superseded', record: aRecord('sealed') },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE' } },
    ],
    [
      '409 where the record is gone',
      { kind: 'superseded', record: undefined },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } },
    ],
    [
      '409, and not its answer, where another request has the key by now',
      { kind: 'superseded', record: aRecord('completed', { fingerprint: randomBytes(32) }) },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_KEY_IN_USE' } },
    ],
  ])('a superseded owner’s client gets %s', async (_, settled, expected) => {
    const bench = anEngine({ complete: async () => settled });
    const execution = await bench.run();
    const { signal } = execution;
    expect(await bench.engine.settle(execution, KEEP)).toMatchObject(expected);
    expect(signal.aborted).toBe(true);
    expect(bench.log.types.filter((type) => type === 'lock-lost')).toHaveLength(1);
    expect(bench.log.types).not.toContain('completed');
  });

  it('refuses the answer where the record can’t be read', async () => {
    const bench = anEngine({ complete: async () => Promise.reject(new RecordUnreadable()) });
    expect(await bench.engine.settle(await bench.run(), KEEP)).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_RECORD_UNREADABLE' },
    });
    expect(bench.store.called('complete')).toHaveLength(1);
  });
});

describe('the signal of an execution', () => {
  it('is aborted for whoever asks for it after the loss, too', async () => {
    const bench = anEngine({ renew: async () => [] });
    const execution = await bench.run();
    await bench.clock.advance(20 * SECOND);
    expect(execution.signal.aborted).toBe(true);
    expect(execution.signal.reason).toMatchObject({ name: 'AbortError' });
  });

  it('is not aborted by a settlement', async () => {
    const bench = anEngine();
    const execution = await bench.run();
    const { signal } = execution;
    await bench.engine.settle(execution, KEEP);
    expect(signal.aborted).toBe(false);
  });
});

describe('drain and close', () => {
  it('lets nobody begin any more, with 503', async () => {
    const bench = anEngine();
    await bench.engine.drain(30 * SECOND);
    expect(await bench.engine.begin(anAdmission())).toMatchObject({
      kind: 'refuse',
      error: { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', status: 503, retryAfter: 1 },
    });
    expect(bench.store.called('claim')).toHaveLength(0);
    expect(bench.log.types).toEqual(['rejected']);
  });

  it('refuses with 503 also where the store may be bypassed: a handler that began now would be cut off', async () => {
    const bench = anEngine();
    await bench.engine.drain(30 * SECOND);
    expect(wordOf(await bench.engine.begin(anAdmission({}, { onStoreFailure: 'bypass' })))).toBe('IDEMPOTENCY_STORE_UNAVAILABLE');
  });

  it('waits for all that runs, and no longer', async () => {
    const bench = anEngine();
    const executions = [await bench.run(), await bench.run()];
    let drained = false;
    const draining = bench.engine.drain(30 * SECOND).then(() => (drained = true));
    for (const execution of executions) {
      await bench.clock.advance(SECOND);
      expect(drained).toBe(false);
      await bench.engine.settle(execution, KEEP);
    }
    await draining;
    expect(bench.clock.now()).toBe(2 * SECOND);
  });

  it('goes on renewing meanwhile', async () => {
    const bench = anEngine();
    const execution = await bench.run();
    const draining = bench.engine.drain(120 * SECOND);
    await bench.clock.advance(100 * SECOND);
    expect(bench.store.called('renew')).toHaveLength(5);
    await bench.engine.settle(execution, KEEP);
    await draining;
  });

  it('gives up after the time it is given', async () => {
    const bench = anEngine();
    await bench.run();
    let drained = false;
    const draining = bench.engine.drain(30 * SECOND).then(() => (drained = true));
    await bench.clock.advance(30 * SECOND - 1);
    expect(drained).toBe(false);
    await bench.clock.advance(1);
    await draining;
  });

  it('calls off what has not begun when its time is over, and nothing sooner', async () => {
    const bench = anEngine();
    const execution = await bench.run();
    let calledOff = false;
    execution.whenCalledOff({
      async callOff() {
        calledOff = true;
        await bench.engine.settle(execution, { kind: 'free' });
      },
    });
    const draining = bench.engine.drain(30 * SECOND);
    await bench.clock.advance(30 * SECOND - 1);
    expect(calledOff).toBe(false);
    await bench.clock.advance(1);
    await draining;
    expect(bench.store.called('release')).toHaveLength(1);
  });

  it('waits for a claim that is on its way, and takes it back since its handler will not begin', async () => {
    const claiming = gate<typeof CLAIMED>();
    const released = gate<Released>();
    const bench = anEngine({ claim: () => claiming.promise, release: () => released.promise });
    const beginning = bench.engine.begin(anAdmission());
    let drained = false;
    const draining = bench.engine.drain(30 * SECOND).then(() => (drained = true));
    await atRest();
    expect(drained).toBe(false);

    claiming.open(CLAIMED);
    expect(wordOf(await beginning)).toBe('IDEMPOTENCY_STORE_UNAVAILABLE');
    await draining;
    const [claim] = bench.store.called('claim')[0]!;
    expect(bench.store.called('release').map(([{ id, owner }]) => ({ id, owner }))).toEqual([{ id: claim.id, owner: claim.owner }]);

    let closed = false;
    const closing = bench.engine.close().then(() => (closed = true));
    await atRest();
    expect(closed).toBe(false);
    released.open('freed');
    await closing;
  });

  it('close leaves no timer behind: neither of leases, nor of writes that wait for another try, nor its own', async () => {
    const bench = anEngine({ complete: async () => Promise.reject(outage()), release: async () => 'absent' });
    await bench.run();
    const [settled, freed] = [await bench.run(), await bench.run()];
    const settling = bench.engine.settle(settled, KEEP);
    await bench.engine.settle(freed, { kind: 'free' });
    Object.assign(bench.store, { claim: async () => Promise.reject(outage()) });
    await bench.engine.begin(anAdmission());
    const draining = bench.engine.drain(SECOND);
    await bench.clock.advance(SECOND);
    await draining;
    expect(bench.clock.pending).toBeGreaterThan(0);

    await bench.engine.close();
    await settling;
    expect(bench.clock.pending).toBe(0);
    const calls = bench.store.calls.length;
    await bench.clock.advance(600 * SECOND);
    expect(bench.store.calls).toHaveLength(calls);
  });
});
