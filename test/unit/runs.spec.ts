import { describe, expect, it } from '@jest/globals';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import { Faults } from '../../lib/nest/faults.js';
import type { IdempotencyModuleOptions } from '../../lib/nest/options.js';
import { resolveModuleOptions } from '../../lib/nest/resolve-options.js';
import { Runs } from '../../lib/nest/runs.js';
import type { RunOptions } from '../../lib/nest/runs.js';
import { aRecord, anEngine, aTransaction, found, outage } from './engine-fixture.js';

function aBench(methods: Partial<IdempotencyStore> = {}, module: IdempotencyModuleOptions = {}) {
  const bench = anEngine(methods);
  const faults = new Faults();
  const options = resolveModuleOptions(module, faults);
  faults.throwIfAny();
  return { ...bench, runs: new Runs(bench.engine, bench.store, options, {}) };
}

const MAIL: RunOptions = { operation: 'mail', key: 'order-1' };
const jsonAnswer = (text: string) => ({ status: 200, headers: [], body: Buffer.from(text) });

describe('run', () => {
  it('claims the key in its operation’s space, and keeps the value as JSON', async () => {
    const { runs, store } = aBench();
    expect(await runs.run({ ...MAIL, scope: 'id=1' }, () => ({ sent: true }))).toEqual({ value: { sent: true }, replayed: false });
    expect(store.called('claim')[0]![0].identity).toMatchObject({ scope: 'id=1', operation: 'mail', key: 'order-1' });
    const [, answer, retentionMs] = store.called('complete')[0]!;
    expect([answer.status, answer.body.toString(), retentionMs]).toEqual([200, '{"sent":true}', 86_400_000]);
  });

  it('has the module’s defaults, and its own options over them', () => {
    const { runs } = aBench({}, { ttl: '48h', onDuplicate: 'wait', waitTimeout: '30s' });
    expect(runs.settingsOf(MAIL)).toMatchObject({ retentionMs: 48 * 3_600_000, waitMs: 30_000, atomic: undefined, durableClaim: true });
    expect(runs.settingsOf({ ...MAIL, ttl: '7d', onDuplicate: 'reject', atomic: { retries: 2 } })).toMatchObject({
      retentionMs: 7 * 86_400_000,
      waitMs: 0,
      atomic: { retries: 2 },
      durableClaim: false,
    });
  });

  it('checks its settings once for each combination, whatever the keys', () => {
    const { runs } = aBench();
    expect(runs.settingsOf({ ...MAIL, ttl: '7d' })).toBe(runs.settingsOf({ ...MAIL, key: 'order-2', scope: 'id=2', input: {}, ttl: '7d' }));
    expect(runs.settingsOf({ ...MAIL, ttl: '7d' })).not.toBe(runs.settingsOf({ ...MAIL, ttl: '8d' }));
  });

  it('tells inputs apart, and not the order of their properties', async () => {
    const { runs, store } = aBench();
    for (const input of [undefined, { a: 1, b: 2 }, { b: 2, a: 1 }, { a: 1 }, null]) await runs.run({ ...MAIL, input }, () => 1);
    const prints = store.called('claim').map(([{ fingerprint }]) => fingerprint.toString('hex'));
    expect(prints[1]).toBe(prints[2]);
    expect(new Set(prints).size).toBe(4);
  });

  it.each<[string, Parameters<typeof aRecord>[0], string]>([
    ['running', 'running', 'IDEMPOTENCY_KEY_IN_USE'],
    ['sealed', 'sealed', 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'],
  ])('throws the typed error for what is %s, and the work does not run', async (_, state, code) => {
    const { runs, store } = aBench();
    await runs.run(MAIL, () => 1);
    const { fingerprint } = store.called('claim')[0]![0];
    Object.assign(store, { claim: async () => found(aRecord(state, { fingerprint })) });
    let ran = 0;
    await expect(runs.run(MAIL, () => (ran += 1))).rejects.toMatchObject({ code });
    expect(ran).toBe(0);
  });

  it('gives a stored value back, empty ones too', async () => {
    const { runs, store } = aBench();
    await runs.run(MAIL, () => 1);
    const { fingerprint } = store.called('claim')[0]![0];
    for (const [text, value] of [
      ['', undefined],
      ['null', null],
      ['[1]', [1]],
    ] as const) {
      Object.assign(store, { claim: async () => found(aRecord('completed', { fingerprint, answer: jsonAnswer(text) })) });
      expect(await runs.run(MAIL, () => 'again')).toEqual({ value, replayed: true });
    }
  });

  it('of a superseded owner gives the new owner’s value', async () => {
    const { runs, store } = aBench();
    Object.assign(store, {
      complete: async () => {
        const { fingerprint } = store.called('claim')[0]![0];
        return { kind: 'superseded', record: aRecord('completed', { fingerprint, answer: jsonAnswer('"theirs"') }) };
      },
    });
    expect(await runs.run(MAIL, () => 'mine')).toEqual({ value: 'theirs', replayed: true });
  });

  it('that throws frees the key and throws the same, also when the key can’t be freed', async () => {
    const failure = new Error('no mail server');
    const { runs, store } = aBench();
    await expect(runs.run(MAIL, () => Promise.reject(failure))).rejects.toBe(failure);
    expect(store.called('release')).toHaveLength(1);
    const { runs: others, clock } = aBench({ release: async () => Promise.reject(outage()) });
    const run = others.run(MAIL, () => Promise.reject(failure));
    run.catch(() => undefined);
    await clock.advance(10_000);
    await expect(run).rejects.toBe(failure);
  });

  it('in atomic mode is one transaction, rolled back by a throw', async () => {
    const asked: string[] = [];
    const { runs } = aBench({ transaction: async () => aTransaction({ manager: 'the manager' }, asked) });
    expect(await runs.run({ ...MAIL, atomic: true }, ({ manager }) => manager as unknown)).toMatchObject({ value: 'the manager' });
    expect(asked.splice(0)).toEqual(['commit complete']);
    await expect(runs.run({ ...MAIL, atomic: true }, () => Promise.reject(new Error('bounced')))).rejects.toThrow('bounced');
    expect(asked).toEqual(['undo, release']);
  });

  it('of a deadlock throws TransactionFailed with its cause, in atomic mode; in plain mode that is the work’s own error', async () => {
    const deadlock = Object.assign(new Error('deadlock detected'), { code: '40P01' });
    const { runs } = aBench();
    await expect(runs.run({ ...MAIL, atomic: true }, () => Promise.reject(deadlock))).rejects.toMatchObject({
      code: 'IDEMPOTENCY_TRANSACTION_FAILED',
      retryAfter: 1,
      cause: deadlock,
    });
    await expect(runs.run(MAIL, () => Promise.reject(deadlock))).rejects.toBe(deadlock);
  });

  it('that can’t begin its repetition says why, and leaves the key free', async () => {
    const deadlock = Object.assign(new Error('deadlock detected'), { code: '40P01' });
    let opened = 0;
    const { runs, store } = aBench({ transaction: async () => ((opened += 1) === 1 ? aTransaction() : Promise.reject(outage())) });
    await expect(runs.run({ ...MAIL, atomic: { retries: 3 } }, () => Promise.reject(deadlock))).rejects.toMatchObject({
      code: expect.stringMatching(/TRANSACTION_FAILED|STORE_UNAVAILABLE/),
    });
    expect(opened).toBe(2);
    expect(store.called('claim')).toHaveLength(1);
  });
});
