import { describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { FoundRecord } from '../../lib/contract/record.js';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import type { LastWrite } from '../../lib/contract/transaction.js';
import { Sealing, WITHOUT_KEYS, sealingKey } from '../../lib/engine/sealing.js';
import { SealingStore } from '../../lib/engine/sealing-store.js';
import { ManualClock } from '../support/manual-clock.js';
import { ANSWER, aRecord, aTransaction, anAdmission, anEngine, anExecution, fakeStore, found, outage } from './engine-fixture.js';
import type { FakeStore } from './engine-fixture.js';

const SOON = 1000;
const UNREADABLE = 'IDEMPOTENCY_RECORD_UNREADABLE';
const sealing = new Sealing({ keys: [sealingKey(randomBytes(32))], acceptPlain: false, writePlain: false });
const { claim } = anExecution();
const STEP = { name: 'charge', result: Buffer.from('"ch_1"') };

function sealed(methods: Partial<IdempotencyStore> = {}, by = sealing): { store: SealingStore; inner: FakeStore } {
  const inner = fakeStore(methods);
  return { store: new SealingStore(inner, by, new ManualClock()), inner };
}

const completed = (): FoundRecord => aRecord('completed', { answer: sealing.sealAnswer(claim.id, ANSWER) } as Partial<FoundRecord>);
const plain = (): FoundRecord => aRecord('completed');

describe('a claim', () => {
  it('opens the answer it has found', async () => {
    const { store } = sealed({ claim: async () => found(completed()) });
    expect(await store.claim(claim, SOON)).toMatchObject({ record: { state: 'completed', answer: ANSWER } });
  });

  it('opens it once, however many requests get it', async () => {
    const { store } = sealed({ claim: async () => found(completed()) });
    const { engine } = anEngine({ claim: (...args) => store.claim(...args) });
    const admission = anAdmission({ identity: { ...claim.identity } });
    const verdicts = await Promise.all([1, 2, 3].map(() => engine.begin(admission)));
    const answers = verdicts.map((verdict) => verdict.kind === 'replay' && verdict.answer);
    expect(answers).toEqual([ANSWER, ANSWER, ANSWER]);
    expect(new Set(answers).size).toBe(1);
  });

  it('does not mind an answer that nobody asks for', async () => {
    const { store } = sealed({ claim: async () => found(plain()) });
    const result = await store.claim(claim, SOON);
    expect(result.kind === 'found' && result.record.state).toBe('completed');
    expect(() => result.kind === 'found' && result.record.state === 'completed' && result.record.answer).toThrow(/cannot be read/);
  });

  it('makes of an unreadable record a refusal that runs nothing, for one who waits as well', async () => {
    for (const waitMs of [0, 5000]) {
      const { store } = sealed({ claim: async () => found(plain()) });
      const { engine, log } = anEngine({ claim: (...args) => store.claim(...args) });
      expect(await engine.begin(anAdmission({ waitMs }))).toMatchObject({ kind: 'refuse', error: { code: UNREADABLE, status: 500 } });
      expect(log.types).toEqual(['rejected']);
      await engine.close();
    }
  });
});

describe('an execution that was superseded', () => {
  it('gets the opened answer of the other one', async () => {
    const { store } = sealed({ complete: async () => ({ kind: 'superseded', record: completed() }) });
    expect(await store.complete(claim, ANSWER, SOON, SOON)).toMatchObject({ record: { answer: ANSWER } });
  });

  it('is refused where that can’t be opened, and its settlement does not reject', async () => {
    const { store } = sealed({
      complete: async () => ({ kind: 'superseded', record: plain() }),
      seal: async () => ({ kind: 'superseded', record: plain() }),
    });
    const bench = anEngine({ complete: (...args) => store.complete(...args), seal: (...args) => store.seal(...args) });
    for (const ending of [{ kind: 'keep', answer: ANSWER, undo: false } as const, { kind: 'seal', undo: false } as const])
      expect(await bench.engine.settle(await bench.run(), ending)).toMatchObject({ kind: 'refuse', error: { code: UNREADABLE } });
  });
});

describe('an execution that is taken over', () => {
  const from = aRecord('open');

  it('begins when its steps can be opened', async () => {
    const { store } = sealed({ steps: async () => [sealing.sealStep(claim.id, STEP)] });
    expect(await store.takeOver(claim, from, SOON)).toEqual({ kind: 'taken', attempt: 2 });
    expect(await store.steps(claim, SOON)).toEqual([STEP]);
  });

  it('is given back at once when they can’t', async () => {
    const { store, inner } = sealed({ steps: async () => [STEP] });
    await expect(store.takeOver(claim, from, SOON)).rejects.toMatchObject({ code: UNREADABLE });
    expect(inner.called('release')).toEqual([[claim, claim.retentionMs, SOON]]);
  });

  it('is left to whoever takes claims back when the store is away', async () => {
    const { store, inner } = sealed({ steps: () => Promise.reject(outage()) });
    await expect(store.takeOver(claim, from, SOON)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    expect(inner.called('release')).toEqual([]);
  });

  it('costs no look at the steps without keys', async () => {
    const { store, inner } = sealed({}, new Sealing(WITHOUT_KEYS));
    await store.takeOver(claim, from, SOON);
    expect(inner.calls.map(({ method }) => method)).toEqual(['takeOver']);
  });
});

describe('what is written', () => {
  it('in a transaction is sealed as well', async () => {
    const written: unknown[] = [];
    const note = (last: LastWrite): number => written.push(last.kind === 'complete' ? last.answer.body : Buffer.of());
    const transaction = aTransaction({
      write: async (last) => note(last) > 0,
      commit: async (last) => (note(last!), { kind: 'committed' }),
      undo: async (last) => (note(last), { kind: 'committed' }),
      recordStep: async (_, step) => written.push(step.result) > 0,
    });
    const { store } = sealed({ transaction: async () => transaction });
    const opened = await store.transaction(claim, {
      isolation: undefined,
      idleMs: SOON,
      connectMs: SOON,
      guard: () => undefined,
      holdsRecord: true,
    });
    const last = { kind: 'complete', ownership: claim, answer: ANSWER, retentionMs: SOON } as const;
    await opened?.write(last);
    await opened?.commit(last);
    await opened?.undo(last);
    await opened?.recordStep(claim, STEP);
    expect(Buffer.concat(written as Buffer[]).toString('latin1')).not.toMatch(/paid|ch_1/);
    expect(written).toHaveLength(4);
  });

  it('by hand is sealed, and nothing stays nothing', async () => {
    const { store, inner } = sealed();
    await store.resolve(claim.identity, ANSWER, SOON);
    await store.resolve(claim.identity, undefined, SOON);
    const [[, answer], [, none]] = inner.called('resolve') as [
      Parameters<IdempotencyStore['resolve']>,
      Parameters<IdempotencyStore['resolve']>,
    ];
    expect(answer?.headers).toEqual([[':sealed', '1']]);
    expect(none).toBeUndefined();
  });

  it('without keys is what it was', async () => {
    const { store, inner } = sealed({}, new Sealing(WITHOUT_KEYS));
    await store.complete(claim, ANSWER, SOON, SOON);
    await store.recordStep(claim, STEP, SOON);
    expect([inner.called('complete')[0]?.[1], inner.called('recordStep')[0]?.[1]]).toEqual([ANSWER, STEP]);
  });
});
