import { describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import type { FoundRecord, RecordState } from '../../lib/contract/record.js';
import type { WindowSettings } from '../../lib/contract/settings.js';
import type { Verdict } from '../../lib/engine/verdict.js';
import { Faults, IdempotencyOptionsError } from '../../lib/nest/faults.js';
import type { DeduplicateOptions, IdempotencyModuleOptions } from '../../lib/nest/options.js';
import { resolveDeduplication } from '../../lib/nest/resolve-deduplication.js';
import { resolveModuleOptions } from '../../lib/nest/resolve-options.js';
import type { ResolvedRoute } from '../../lib/nest/resolve-options.js';
import { recognised } from '../../lib/recipes/deduplicate.js';
import { ANSWER, SECOND, aRecord, anAdmission, anEngine, found } from './engine-fixture.js';

const DUPLICATE = 'IDEMPOTENCY_DUPLICATE_REQUEST';

function resolve(options: unknown, module: IdempotencyModuleOptions = {}): ResolvedRoute {
  const faults = new Faults();
  const written = { controller: 'Forms', method: 'contact', options: options as DeduplicateOptions };
  const route = resolveDeduplication(resolveModuleOptions(module, faults), written, faults);
  faults.throwIfAny();
  return route;
}

function faultsOf(options: unknown, module?: IdempotencyModuleOptions): string[] {
  try {
    resolve(options, module);
    return [];
  } catch (error) {
    if (!(error instanceof IdempotencyOptionsError)) throw error;
    return error.faults.map(({ option, where, fault, remedy }) => `${option} (${where}) ${fault}. ${remedy}`);
  }
}

describe('what @Deduplicate is given', () => {
  it('has defaults, and takes the rest from the module', () => {
    const { keeps, ...route } = resolve(
      { window: '10s' },
      { lockTtl: '20s', storeTimeout: '1s', onStoreFailure: 'bypass', ttl: '7d', atomic: true },
    );
    expect(route).toMatchObject({
      handler: 'Forms.contact',
      window: { answer: 'reject' },
      retentionMs: 10_000,
      scope: 'default',
      fingerprint: undefined,
      forgetsWithinADay: false,
      leaseMs: 20_000,
      storeTimeoutMs: 1000,
      onStoreFailure: 'bypass',
      atomic: undefined,
      waitMs: 0,
      onLostExecution: 'rerun',
    });
    expect([200, 204, 303, 400, 404, 422, 500].map((status) => keeps(status))).toEqual([true, true, true, false, false, false, false]);
    expect(Object.isFrozen(route.window)).toBe(true);
  });

  it('goes over the module’s', () => {
    const [scope, fingerprint] = [() => 'tenant', () => 'text'];
    expect(
      resolve({ window: 500, answer: 'replay', scope, fingerprint, onStoreFailure: 'reject' }, { onStoreFailure: 'bypass' }),
    ).toMatchObject({
      retentionMs: 500,
      window: { answer: 'replay' },
      scope,
      fingerprint,
      onStoreFailure: 'reject',
    });
    expect(resolve({ window: '1d', scope: false }, { scope }).scope).toBe('shared');
    expect(resolve({ window: '1d' }, { scope }).scope).toBe(scope);
  });

  it.each<[unknown, RegExp]>([
    [{}, /^window \(Forms\.contact\) is missing\. .*window: '10s'/],
    [{ window: 'soon' }, /^window .*'soon', which is no duration/],
    [{ window: 0 }, /^window .*not between 100ms and 1d/],
    [{ window: '25h' }, /^window .*not between 100ms and 1d.*beyond a day/],
    [{ window: '1s', answer: 'wait' }, /^answer .*'wait', which is not 'reject' or 'replay'/],
    [{ window: '1s', scope: 'ip' }, /^scope .*neither a function nor false/],
    [{ window: '1s', fingerprint: 'body' }, /^fingerprint .*no function/],
    [{ window: '1s', onStoreFailure: 'ignore' }, /^onStoreFailure .*not 'reject' or 'bypass'/],
    [
      { window: '1s', ttl: '1h' },
      /^ttl .*is no option of @Deduplicate\(\)\. There are: window, answer, scope, fingerprint, onStoreFailure\./,
    ],
    [{ window: '1s', header: 'X-Key' }, /^header .*is no option of @Deduplicate\(\)/],
  ])('%j is refused with a way out', (options, fault) => {
    expect(faultsOf(options)).toEqual([expect.stringMatching(fault)]);
  });

  it('can’t have the scope of a module in which all callers are one, unless it says so itself', () => {
    expect(faultsOf({ window: '1s' }, { scope: false })).toEqual([
      expect.stringMatching(/^scope \(Forms\.contact\) is false for the whole module/),
    ]);
    expect(faultsOf({ window: '1s', scope: false }, { scope: false })).toEqual([]);
    expect(faultsOf({ window: '1s', scope: () => 'me' }, { scope: false })).toEqual([]);
  });
});

describe('a request without a key', () => {
  const said = randomBytes(32);

  it('is the same record if the same caller says the same at the same place, and another life of it each time', () => {
    const [one, two] = [recognised('id=1', 'POST /contact', said), recognised('id=1', 'POST /contact', said)];
    expect(two.identity).toEqual(one.identity);
    expect(two.fingerprint.equals(one.fingerprint)).toBe(false);
    const others = [
      recognised('id=2', 'POST /contact', said),
      recognised('id=1', 'POST /orders', said),
      recognised('id=1', 'POST /contact', randomBytes(32)),
    ];
    expect(new Set([one, ...others].map(({ identity }) => identity.id)).size).toBe(4);
  });
});

describe('a window in the engine', () => {
  const inWindow = (answer: WindowSettings['answer'] = 'reject') =>
    anAdmission({ fingerprint: randomBytes(32) }, { window: { answer }, retentionMs: 10 * SECOND });
  const told = (verdict: Verdict): unknown =>
    verdict.kind === 'refuse' ? [verdict.error.code, verdict.error.status, verdict.error.retryAfter] : verdict.kind;

  it.each<[RecordState, number, unknown]>([
    ['completed', 2_100, [DUPLICATE, 409, 3]],
    ['sealed', 2_100, [DUPLICATE, 409, 3]],
    ['sealed', 0.4, [DUPLICATE, 409, 1]],
    ['running', 7_500, [DUPLICATE, 409, 8]],
    ['running', 500, [DUPLICATE, 409, 2]],
    ['running', -60_000, [DUPLICATE, 409, 2]],
    ['lost', -60_000, 'run'],
    ['open', 500, 'run'],
  ])('a %s record with %d ms of it left', async (state, retentionLeftMs, expected) => {
    const { engine, log } = anEngine({ claim: async () => found(aRecord(state, { retentionLeftMs })) });
    expect(told(await engine.begin(inWindow()))).toEqual(expected);
    expect(log.events[0]).toMatchObject(expected === 'run' ? { type: 'taken-over' } : { type: 'rejected', code: DUPLICATE });
  });

  it('gives the answer again where that is wanted, and refuses where there is none to give', async () => {
    const of = async (record: FoundRecord): Promise<Verdict> =>
      anEngine({ claim: async () => found(record) }).engine.begin(inWindow('replay'));
    expect(await of(aRecord('completed'))).toEqual({ kind: 'replay', answer: ANSWER });
    expect(told(await of(aRecord('sealed', { retentionLeftMs: 1 })))).toEqual([DUPLICATE, 409, 1]);
  });

  it('counts from the start of the execution, whatever the settlement takes, and is over after that', async () => {
    const { engine, store, clock } = anEngine({ complete: async () => ({ kind: 'settled' }) });
    const run = async (afterMs: number): Promise<void> => {
      const verdict = await engine.begin(inWindow('replay'));
      if (verdict.kind !== 'run') throw new Error('It did not run.');
      await clock.advance(afterMs);
      await engine.settle(verdict.execution, { kind: 'keep', answer: ANSWER, undo: false });
    };
    await run(4 * SECOND);
    await run(11 * SECOND);
    expect(store.called('complete').map(([, , retentionMs]) => retentionMs)).toEqual([6 * SECOND, 1]);
  });

  it('has keys for others that all attempts share, and no later execution has', async () => {
    const keyIn = async (engine: ReturnType<typeof anEngine>['engine'], admission = inWindow()): Promise<string> => {
      const verdict = await engine.begin(admission);
      if (verdict.kind !== 'run') throw new Error('It did not run.');
      return verdict.execution.keyFor('mail');
    };
    const admission = inWindow();
    const first = await keyIn(anEngine().engine, admission);
    const lost = found(aRecord('lost', { fingerprint: admission.fingerprint, owner: randomUUID() }));
    const retry = { ...admission, fingerprint: randomBytes(32) };
    expect(await keyIn(anEngine({ claim: async () => lost }).engine, retry)).toBe(first);
    expect(await keyIn(anEngine().engine, retry)).not.toBe(first);
  });

  it('tells a superseded owner of a duplicate, and never of a key', async () => {
    const { engine } = anEngine({ seal: async () => ({ kind: 'superseded', record: aRecord('running', { retentionLeftMs: 5_000 }) }) });
    const verdict = await engine.begin(inWindow());
    if (verdict.kind !== 'run') throw new Error('It did not run.');
    expect(await engine.settle(verdict.execution, { kind: 'seal', undo: false })).toMatchObject({
      kind: 'refuse',
      error: { code: DUPLICATE, retryAfter: 5 },
    });
  });
});
