/** Requests with one key in one process: who of them asks the store, and what the others may be told. */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { RecordUnreadable } from '../../lib/contract/errors.js';
import type { ClaimResult } from '../../lib/contract/record.js';
import type { ExecutionSettings } from '../../lib/contract/settings.js';
import type { Admission } from '../../lib/engine/engine.js';
import { identify } from '../../lib/engine/key.js';
import { HOT_READS, MOMENT_MS } from '../../lib/engine/replay-memory.js';
import type { Ending, Verdict } from '../../lib/engine/verdict.js';
import { atRest } from '../support/manual-clock.js';
import { ANSWER, CLAIMED, SECOND, aRecord, anAdmission, anEngine, found, gate, inTurn, outage } from './engine-fixture.js';

const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };
const IN_USE = 'IDEMPOTENCY_KEY_IN_USE';
const UNAVAILABLE = 'IDEMPOTENCY_STORE_UNAVAILABLE';

const identity = identify('id=1', '', 'one key');
const asking = (settings: Partial<ExecutionSettings> = {}, fields: Partial<Omit<Admission, 'settings'>> = {}): Admission =>
  anAdmission({ identity, ...fields }, settings);

const many = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
const wordOf = (verdict: Verdict): string => (verdict.kind === 'refuse' ? verdict.error.code : verdict.kind);
const wordsOf = async (verdicts: Iterable<Promise<Verdict>>): Promise<string[]> => (await Promise.all(verdicts)).map(wordOf);

/** An engine whose claims are answered one after the other, when the test says so. */
function aSlowStore(settings: Parameters<typeof anEngine>[1] = {}) {
  const claims: ReturnType<typeof gate<ClaimResult>>[] = [];
  const bench = anEngine(
    {
      claim: () => {
        const claim = gate<ClaimResult>();
        claims.push(claim);
        return claim.promise;
      },
    },
    settings,
  );
  return {
    ...bench,
    begin: (admission = asking()) => bench.engine.begin(admission),
    /** How many looks there were so far. */
    looks: async () => {
      await atRest();
      return claims.length;
    },
    answer: (result: ClaimResult) => claims.at(-1)!.open(result),
    fail: (error: Error) => claims.at(-1)!.fail(error),
  };
}

describe.each([
  ['rejects', 0],
  ['waits', 10 * SECOND],
] as const)('a storm of one request whose route %s duplicates', (word, waitMs) => {
  const rejects = word === 'rejects';
  const request = asking({ waitMs });

  it('costs two statements: with the first one, while that is on its way, and while it runs', async () => {
    const bench = aSlowStore();
    const storm = many(50, () => bench.begin(request));
    bench.answer(CLAIMED);
    const first = await storm.shift()!;
    if (first.kind !== 'run') throw new Error(first.kind);
    storm.push(...many(50, () => bench.begin(request)));
    await bench.clock.advance(5 * SECOND);
    expect(await bench.engine.settle(first.execution, KEEP)).toEqual({ kind: 'send' });
    expect(new Set(await wordsOf(storm))).toEqual(new Set([rejects ? IN_USE : 'replay']));
    expect(bench.store.calls.map(({ method }) => method)).toEqual(['claim', 'complete']);
    const told = bench.log.types.filter((type) => type === (rejects ? 'rejected' : 'replayed'));
    expect(told).toHaveLength(storm.length);
  });

  it.each([
    ['completed', 'replay'],
    ['sealed', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
  ] as const)('costs one statement where there is a %s record', async (state, expected) => {
    const bench = aSlowStore();
    const storm = many(100, () => bench.begin(request));
    bench.answer(found(aRecord(state)));
    expect(new Set(await wordsOf(storm))).toEqual(new Set([expected]));
    expect(await bench.looks()).toBe(1);
    expect(bench.log.events).toHaveLength(100);
  });

  it('is told of another request’s key, each by its own fingerprint', async () => {
    const bench = aSlowStore();
    const other = { ...request, fingerprint: randomBytes(32) };
    const storm = [request, other, request, other].map((each) => bench.begin(each));
    bench.answer(found(aRecord('completed', { fingerprint: other.fingerprint })));
    expect(await wordsOf(storm)).toEqual(['IDEMPOTENCY_KEY_REUSED', 'replay', 'IDEMPOTENCY_KEY_REUSED', 'replay']);
    expect(await bench.looks()).toBe(1);
  });

  it('is told of a failure together, by each one’s rule for that, and only what was sent is taken back', async () => {
    const bench = aSlowStore();
    const bypassing = asking({ waitMs, onStoreFailure: 'bypass' });
    const storm = [request, bypassing, request].map((each) => bench.begin(each));
    bench.fail(outage());
    expect(await wordsOf(storm)).toEqual([UNAVAILABLE, 'bypass', UNAVAILABLE]);
    await atRest();
    expect(bench.store.calls.map(({ method }) => method)).toEqual(['claim', 'release']);
    expect(bench.log.types).toEqual(['store-failed', 'rejected', 'rejected']);
    await bench.engine.close();
  });

  it('takes a lost record over once', async () => {
    const bench = anEngine({ claim: async () => found(aRecord('lost')) });
    const storm = many(10, () => bench.engine.begin(request));
    const first = await storm.shift()!;
    if (first.kind !== 'run') throw new Error(first.kind);
    await bench.engine.settle(first.execution, KEEP);
    expect(new Set(await wordsOf(storm))).toEqual(new Set([rejects ? IN_USE : 'replay']));
    expect(bench.store.calls.map(({ method }) => method)).toEqual(['claim', 'takeOver', 'complete']);
  });

  it('is let in by nobody once the application closes, and leaves no claim behind', async () => {
    const bench = aSlowStore();
    const storm = many(5, () => bench.begin(request));
    const draining = bench.engine.drain(30 * SECOND);
    bench.answer(CLAIMED);
    expect(new Set(await wordsOf(storm))).toEqual(new Set([UNAVAILABLE]));
    await draining;
    expect(bench.store.calls.map(({ method }) => method)).toEqual(['claim', 'release']);
  });
});

describe('a request that comes while a look is under way', () => {
  it('is not told that the key is in use elsewhere: it asks, since that may be over by now', async () => {
    const bench = aSlowStore();
    const first = bench.begin();
    const second = bench.begin();
    bench.answer(found(aRecord('running')));
    expect(await wordsOf([first])).toEqual([IN_USE]);
    expect(await bench.looks()).toBe(2);
    bench.answer(found(aRecord('completed')));
    expect(await wordsOf([second])).toEqual(['replay']);
  });

  it('asks together with all that have come meanwhile, and what is found then holds for all of them', async () => {
    const bench = aSlowStore();
    const first = bench.begin();
    const others = many(50, () => bench.begin());
    bench.answer(found(aRecord('running')));
    expect(await bench.looks()).toBe(2);
    bench.answer(found(aRecord('running')));
    expect(new Set(await wordsOf([first, ...others]))).toEqual(new Set([IN_USE]));
    expect(await bench.looks()).toBe(2);
  });

  it('waits where it would wait anyway, and looks again in a moment', async () => {
    const bench = aSlowStore();
    const all = many(20, () => bench.begin(asking({ waitMs: 10 * SECOND })));
    bench.answer(found(aRecord('running')));
    expect(await bench.looks()).toBe(1);
    await bench.clock.advance(10);
    expect(await bench.looks()).toBe(2);
    bench.answer(found(aRecord('completed')));
    expect(new Set(await wordsOf(all))).toEqual(new Set(['replay']));
    expect(await bench.looks()).toBe(2);
  });

  it('asks all the same where there is no place to wait', async () => {
    const bench = aSlowStore({ maxWaiters: 0 });
    const [first, second] = many(2, () => bench.begin(asking({ waitMs: 10 * SECOND })));
    bench.answer(found(aRecord('running')));
    expect(await wordsOf([first!])).toEqual([IN_USE]);
    expect(await bench.looks()).toBe(2);
    bench.answer(found(aRecord('completed')));
    expect(await wordsOf([second!])).toEqual(['replay']);
  });

  it('asks for itself where another request has the key: that one may be gone by now', async () => {
    const bench = aSlowStore();
    const other = aRecord('running', { fingerprint: randomBytes(32) });
    const [first, second] = [bench.begin(), bench.begin()];
    bench.answer(found(other));
    expect(await wordsOf([first])).toEqual(['IDEMPOTENCY_KEY_REUSED']);
    expect(await bench.looks()).toBe(2);
    bench.answer(CLAIMED);
    expect(await wordsOf([second])).toEqual(['run']);
  });

  it.each([
    ['a second', MOMENT_MS, {}],
    ['the answer’s end', 100, { retentionLeftMs: 100 }],
  ])('is not told of an answer that was asked for longer than %s ago', async (_, ms, fields) => {
    const bench = aSlowStore();
    const [first, second] = [bench.begin(), bench.begin()];
    await bench.clock.advance(ms);
    bench.answer(found(aRecord('completed', fields)));
    expect(await wordsOf([first])).toEqual(['replay']);
    expect(await bench.looks()).toBe(2);
    bench.answer(CLAIMED);
    expect(await wordsOf([second])).toEqual(['run']);
  });

  it('is not told of an answer that somebody has removed here meanwhile', async () => {
    const bench = aSlowStore();
    const first = bench.begin();
    bench.engine.lookAfresh(({ id }) => id === identity.id);
    const second = bench.begin();
    bench.answer(found(aRecord('completed')));
    expect(await wordsOf([first])).toEqual(['replay']);
    expect(await bench.looks()).toBe(2);
    bench.answer(CLAIMED);
    expect(await wordsOf([second])).toEqual(['run']);
  });
});

describe('requests of several routes that share a look', () => {
  /** One look is under way, and those are waiting for the next one, which is for all of them. */
  async function together(bench: ReturnType<typeof aSlowStore>, ...admissions: Admission[]): Promise<Promise<Verdict>[]> {
    const first = bench.begin();
    const others = admissions.map((admission) => bench.begin(admission));
    bench.answer(found(aRecord('running')));
    await first;
    expect(await bench.looks()).toBe(2);
    return others;
  }

  it('go by their own rule for a lost one', async () => {
    const bench = aSlowStore();
    const settings = (['reject', 'reject', 'rerun', 'rerun'] as const).map((onLostExecution) => asking({ onLostExecution }));
    const all = await together(bench, ...settings);
    bench.answer(found(aRecord('lost')));
    expect(await wordsOf(all.slice(0, 2))).toEqual(many(2, () => 'IDEMPOTENCY_OUTCOME_UNKNOWN'));
    expect(await bench.looks()).toBe(3);
    bench.answer(found(aRecord('lost')));
    expect(await wordsOf(all.slice(2))).toEqual(['run', IN_USE]);
    expect(bench.store.called('takeOver')).toHaveLength(1);
  });

  it('go by their own answer to a duplicate in a window', async () => {
    const bench = aSlowStore();
    const all = (['replay', 'reject'] as const).map((answer) =>
      bench.begin(asking({ window: { answer } }, { fingerprint: randomBytes(32) })),
    );
    bench.answer(found(aRecord('completed', { retentionLeftMs: 4 * SECOND })));
    expect(await Promise.all(all)).toMatchObject([
      { kind: 'replay' },
      { kind: 'refuse', error: { code: 'IDEMPOTENCY_DUPLICATE_REQUEST', retryAfter: 4 } },
    ]);
  });

  it('go by their own limit of live keys', async () => {
    const bench = aSlowStore();
    const all = await together(bench, ...[7, 7, 8].map((maxLiveKeys) => asking({ maxLiveKeys, retryAfterMs: SECOND })));
    bench.answer({ kind: 'over-limit', freesInMs: 3 * SECOND });
    expect(await Promise.all(all.slice(0, 2))).toMatchObject(
      many(2, () => ({ error: { code: 'IDEMPOTENCY_TOO_MANY_KEYS', retryAfter: 3 } })),
    );
    expect(await bench.looks()).toBe(3);
    bench.answer(CLAIMED);
    expect(await wordsOf(all.slice(2))).toEqual(['run']);
  });

  it('go by their own wait, where it is at work right here', async () => {
    const bench = anEngine();
    await bench.run(asking());
    expect(await bench.engine.begin(asking({ retryAfterMs: 7 * SECOND }))).toMatchObject({ error: { code: IN_USE, retryAfter: 7 } });
    expect(bench.store.called('claim')).toHaveLength(1);
  });

  it('have the patience of their own: whoever has more asks itself, and whoever has less does not wait', async () => {
    const bench = aSlowStore();
    const [first, patient, hasty] = [5, 10, 1].map((seconds) => bench.begin(asking({ storeTimeoutMs: seconds * SECOND })));
    await bench.clock.advance(SECOND);
    expect(await wordsOf([hasty!])).toEqual([UNAVAILABLE]);
    bench.fail(outage());
    expect(await wordsOf([first!])).toEqual([UNAVAILABLE]);
    expect(await bench.looks()).toBe(2);
    expect(bench.store.called('claim').map(([, withinMs]) => withinMs)).toEqual([5 * SECOND, 9 * SECOND]);
    bench.answer(found(aRecord('completed')));
    expect(await wordsOf([patient!])).toEqual(['replay']);
    await bench.engine.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('hear of whatever else has gone wrong', async () => {
    const bench = aSlowStore();
    const unreadable = many(2, () => bench.begin());
    bench.fail(new RecordUnreadable());
    expect(await wordsOf(unreadable)).toEqual(many(2, () => 'IDEMPOTENCY_RECORD_UNREADABLE'));
    const bug = new TypeError('a bug');
    const broken = many(2, () => bench.begin());
    bench.fail(bug);
    for (const each of await Promise.allSettled(broken)) expect(each).toEqual({ status: 'rejected', reason: bug });
  });
});

describe('a request whose key is at work right here', () => {
  it('in a window hears how long that goes on at least', async () => {
    const bench = anEngine();
    const repeated = (): Admission => asking({ window: { answer: 'replay' }, retentionMs: 10 * SECOND }, { fingerprint: randomBytes(32) });
    await bench.run(repeated());
    await bench.clock.advance(4 * SECOND);
    expect(await bench.engine.begin(repeated())).toMatchObject({ error: { code: 'IDEMPOTENCY_DUPLICATE_REQUEST', retryAfter: 6 } });
    await bench.clock.advance(10 * SECOND);
    expect(await bench.engine.begin(repeated())).toMatchObject({ error: { code: 'IDEMPOTENCY_DUPLICATE_REQUEST', retryAfter: 2 } });
    expect(bench.store.called('claim')).toHaveLength(1);
  });

  it('asks the store when the end of that is on its way', async () => {
    const bench = anEngine({ complete: () => new Promise(() => undefined) });
    void bench.engine.settle(await bench.run(asking()), KEEP);
    Object.assign(bench.store, { claim: async () => found(aRecord('completed')) });
    expect(wordOf(await bench.engine.begin(asking()))).toBe('replay');
  });

  it('asks the store when the lease of that may have run out unnoticed', async () => {
    const bench = anEngine({ renew: async () => Promise.reject(outage()) });
    await bench.run(asking());
    Object.assign(bench.store, { claim: async () => found(aRecord('completed')) });
    await bench.clock.advance(60 * SECOND - 1);
    expect(wordOf(await bench.engine.begin(asking()))).toBe(IN_USE);
    await bench.clock.advance(1);
    expect(wordOf(await bench.engine.begin(asking()))).toBe('replay');
  });

  it('hears that its transaction could not begin, if it waits for it', async () => {
    const opening = gate<never>();
    const bench = anEngine({ transaction: () => opening.promise });
    const settings = { waitMs: 10 * SECOND, atomic: { isolation: undefined, retries: 0 } };
    const all = many(3, () => bench.engine.begin(asking(settings)));
    await atRest();
    opening.fail(outage());
    expect(await wordsOf(all)).toEqual(many(3, () => UNAVAILABLE));
    expect(bench.store.called('claim')).toHaveLength(1);
    await bench.engine.close();
  });
});

describe('an answer that is asked for all the time', () => {
  /** An engine whose store says that there is an answer, and how often that was read. */
  function aHotAnswer(fields: Parameters<typeof aRecord<'completed'>>[1] = {}) {
    const bench = anEngine({ claim: async () => found(aRecord('completed', fields)) });
    const heat = async (admission = asking()): Promise<void> => {
      for (let read = 0; read < HOT_READS; read++) expect(wordOf(await bench.engine.begin(admission))).toBe('replay');
    };
    return { ...bench, heat, reads: () => bench.store.called('claim').length };
  }

  it('is read once in a second, and told as any other replay', async () => {
    const { engine, log, clock, heat, reads } = aHotAnswer();
    await heat();
    expect(reads()).toBe(HOT_READS);
    for (let i = 0; i < 100; i++) expect(await engine.begin(asking())).toEqual({ kind: 'replay', answer: ANSWER });
    expect(reads()).toBe(HOT_READS);
    await clock.advance(MOMENT_MS);
    expect(await engine.begin(asking())).toEqual({ kind: 'replay', answer: ANSWER });
    expect(reads()).toBe(HOT_READS + 1);
    expect(log.types).toEqual(many(HOT_READS + 101, () => 'replayed'));
    await engine.close();
    expect(clock.pending).toBe(0);
  });

  it('is for the request that it was given to', async () => {
    const { engine, log, heat, reads } = aHotAnswer();
    await heat();
    const other = asking({}, { fingerprint: randomBytes(32) });
    expect(wordOf(await engine.begin(other))).toBe('IDEMPOTENCY_KEY_REUSED');
    expect(reads()).toBe(HOT_READS);
    expect(log.events.at(-1)).toMatchObject({ type: 'rejected', code: 'IDEMPOTENCY_KEY_REUSED' });
  });

  it('is asked for again after it was forgotten or settled by hand, also if it was being read meanwhile', async () => {
    const { engine, store, heat, reads } = aHotAnswer();
    const reading = gate<ClaimResult>();
    await heat();
    engine.lookAfresh(({ scope }) => scope === 'id=1');
    Object.assign(store, { claim: () => reading.promise });
    const old = engine.begin(asking());
    engine.lookAfresh(({ id }) => id === identity.id);
    reading.open(found(aRecord('completed')));
    await old;
    Object.assign(store, { claim: async () => CLAIMED });
    expect(wordOf(await engine.begin(asking()))).toBe('run');
    expect(reads()).toBe(HOT_READS);
  });

  it('of a window is not given beyond that', async () => {
    const { engine, clock, store, heat } = aHotAnswer({ retentionLeftMs: 300 });
    const repeated = (): Admission => asking({ window: { answer: 'replay' } }, { fingerprint: randomBytes(32) });
    await heat(repeated());
    Object.assign(store, { claim: async () => CLAIMED });
    await clock.advance(299);
    expect(wordOf(await engine.begin(repeated()))).toBe('replay');
    await clock.advance(1);
    expect(wordOf(await engine.begin(repeated()))).toBe('run');
  });

  it('is not what refusals make it: only answers that were given count', async () => {
    const { engine, reads } = aHotAnswer();
    const other = asking({}, { fingerprint: randomBytes(32) });
    for (let i = 0; i < 2 * HOT_READS; i++) await engine.begin(other);
    await engine.begin(asking());
    await engine.begin(asking());
    expect(reads()).toBe(2 * HOT_READS + 2);
  });

  it('is one that many have read, not one that many were told of at once', async () => {
    const bench = aSlowStore();
    const storm = many(3 * HOT_READS, () => bench.begin());
    bench.answer(found(aRecord('completed')));
    await Promise.all(storm);
    void bench.begin();
    expect(await bench.looks()).toBe(2);
  });

  it('is not given any more when the application closes', async () => {
    const { engine, heat } = aHotAnswer();
    await heat();
    await engine.drain(0);
    expect(wordOf(await engine.begin(asking()))).toBe(UNAVAILABLE);
  });

  it('is not said where the handler is at work again', async () => {
    const bench = anEngine({ claim: inTurn(found(aRecord('completed')), CLAIMED) });
    await bench.engine.begin(asking());
    await bench.run(asking());
    expect(wordOf(await bench.engine.begin(asking()))).toBe(IN_USE);
  });
});
