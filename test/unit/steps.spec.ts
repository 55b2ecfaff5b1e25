import { describe, expect, it } from '@jest/globals';
import type { RecordedStep } from '../../lib/contract/record.js';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { OwnedExecution } from '../../lib/engine/execution.js';
import { Steps } from '../../lib/recipes/steps.js';
import { SECOND, aTransaction, anAdmission, anExecution, fakeStore, gate, inTurn, outage } from './engine-fixture.js';
import type { FakeStore } from './engine-fixture.js';

interface Bench {
  readonly steps: Steps;
  readonly store: FakeStore;
  readonly execution: OwnedExecution;
  /** How often work was run apart from the transaction. */
  apart(): number;
}

interface Given {
  readonly methods?: Partial<IdempotencyStore>;
  readonly execution?: OwnedExecution;
  readonly partOf?: RecordTransaction;
}

function aBench({ methods = {}, execution = anExecution(), partOf }: Given = {}): Bench {
  const store = fakeStore(methods);
  let apart = 0;
  const steps = new Steps({
    store,
    execution,
    partOf: () => partOf,
    apart: (work) => {
      apart += 1;
      return work();
    },
    guard: () => undefined,
  });
  return { steps, store, execution, apart: () => apart };
}

/** The same claim, and another attempt or no key at all. */
function another(fields: { attempt?: number; keyed?: boolean; durableClaim?: boolean } = {}): OwnedExecution {
  const { attempt = 1, keyed = true, durableClaim = true } = fields;
  const { claim, settings, handler, startedAt } = anExecution({ durableClaim });
  return new OwnedExecution({ claim, keyed, attempt, settings, handler, startedAt });
}

const recorded = (name: string, value: unknown): RecordedStep => ({
  name,
  result: Buffer.from(value === undefined ? '' : JSON.stringify(value)),
});
const INVALID = { code: 'IDEMPOTENCY_STEP_INVALID' };
const SUPERSEDED = { code: 'IDEMPOTENCY_EXECUTION_SUPERSEDED' };

describe('a step', () => {
  it('is recorded under the owner’s token, as JSON, within the route’s time', async () => {
    const { steps, store, execution, apart } = aBench();
    expect(await steps.step('charge', () => ({ id: 7 }))).toEqual({ id: 7 });
    expect(store.called('recordStep')).toEqual([[execution.ownership, recorded('charge', { id: 7 }), 5 * SECOND]]);
    expect(apart()).toBe(1);
  });

  it('asks for earlier steps only where there can be any, and once', async () => {
    const first = aBench();
    await first.steps.step('charge', () => 1);
    expect(first.store.called('steps')).toHaveLength(0);
    const second = aBench({ execution: another({ attempt: 2 }) });
    await Promise.all([second.steps.step('charge', () => 1), second.steps.step('mail', () => 2)]);
    expect(second.store.called('steps')).toHaveLength(1);
  });

  it('that is recorded is not run, nor recorded again', async () => {
    const { steps, store } = aBench({
      execution: another({ attempt: 2 }),
      methods: { steps: async () => [recorded('charge', 7), recorded('mail', undefined)] },
    });
    let runs = 0;
    expect([await steps.step('charge', () => (runs += 1)), await steps.step('mail', () => (runs += 1))]).toEqual([7, undefined]);
    expect([runs, store.called('recordStep').length]).toEqual([0, 0]);
    expect(await steps.step('ship', () => (runs += 1))).toBe(1);
  });

  it('that was recorded by an earlier run of the same handler is not run again', async () => {
    const steps: RecordedStep[] = [];
    const methods: Partial<IdempotencyStore> = {
      steps: async () => steps,
      recordStep: async (_, step) => steps.push(step) > 0,
    };
    const bench = aBench({ methods });
    let runs = 0;
    const work = (): number => (runs += 1);
    expect(await bench.steps.step('charge', work)).toBe(1);
    bench.execution.runs += 1;
    expect(await bench.steps.step('charge', work)).toBe(1);
    await expect(bench.steps.step('charge', work)).rejects.toMatchObject(INVALID);
    bench.execution.runs += 1;
    expect([await bench.steps.step('charge', work), await bench.steps.step('mail', work), runs]).toEqual([1, 2, 2]);
  });

  it('that fails is not recorded, and its error is its own', async () => {
    const failure = new Error('declined');
    const { steps, store } = aBench();
    await expect(steps.step('charge', () => Promise.reject(failure))).rejects.toBe(failure);
    expect(store.called('recordStep')).toHaveLength(0);
  });

  it('of a superseded owner is refused, by the store and, where that is known, before its work', async () => {
    await expect(aBench({ methods: { recordStep: async () => false } }).steps.step('charge', () => 1)).rejects.toMatchObject(SUPERSEDED);
    const { steps, execution } = aBench();
    execution.lose();
    let runs = 0;
    await expect(steps.step('charge', () => (runs += 1))).rejects.toMatchObject(SUPERSEDED);
    expect(runs).toBe(0);
  });

  it('that can’t be recorded fails: nobody may rely on it', async () => {
    const { steps } = aBench({ methods: { recordStep: async () => Promise.reject(outage()) } });
    await expect(steps.step('charge', () => 1)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });

  it('waits until the claim is on disk before its work, where the claim did not, and once', async () => {
    const flushing = gate<boolean>();
    const { steps, store } = aBench({ execution: another({ durableClaim: false }), methods: { flush: () => flushing.promise } });
    let runs = 0;
    const both = Promise.all([steps.step('charge', () => (runs += 1)), steps.step('mail', () => (runs += 1))]);
    await new Promise(setImmediate);
    expect(runs).toBe(0);
    flushing.open(true);
    await both;
    expect([runs, store.called('flush').length]).toEqual([2, 1]);
    const durable = aBench();
    await durable.steps.step('charge', () => 1);
    expect(durable.store.called('flush')).toHaveLength(0);
  });

  it('does not begin where the claim can’t be brought to disk', async () => {
    const { steps } = aBench({ execution: another({ durableClaim: false }), methods: { flush: async () => Promise.reject(outage()) } });
    let runs = 0;
    await expect(steps.step('charge', () => (runs += 1))).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    expect(runs).toBe(0);
  });

  it('does not begin either where the claim is forgotten: another system would hear of an execution that nobody knows of', async () => {
    const execution = another({ durableClaim: false });
    const { steps, store } = aBench({ execution, methods: { flush: async () => false } });
    let runs = 0;
    await expect(steps.step('charge', () => (runs += 1))).rejects.toMatchObject(SUPERSEDED);
    await expect(steps.step('mail', () => (runs += 1))).rejects.toMatchObject(SUPERSEDED);
    expect([runs, store.called('flush')]).toEqual([0, [[execution.ownership, 5 * SECOND]]]);
  });

  it('whose result comes after the end of its execution is not recorded any more', async () => {
    const { steps, store, execution } = aBench();
    const charging = gate<number>();
    const charge = steps.step('charge', () => charging.promise);
    await new Promise(setImmediate);
    execution.settling = true;
    charging.open(7);
    await expect(charge).rejects.toMatchObject(SUPERSEDED);
    expect(store.called('recordStep')).toHaveLength(0);
  });

  it('without a key just runs', async () => {
    const { steps, store } = aBench({ execution: another({ keyed: false, attempt: 2, durableClaim: false }) });
    expect(await steps.step('charge', ({ key }) => typeof key)).toBe('string');
    expect(store.calls).toEqual([]);
  });

  it.each(['', 'x'.repeat(201), 'a\u0000b', 'a\tb', '\ud800'])('has no such name: %j', async (name) => {
    await expect(aBench().steps.step(name, () => 1)).rejects.toMatchObject(INVALID);
  });

  it('has names of up to 200 characters, in any script', async () => {
    expect(await aBench().steps.step('ü'.repeat(200), () => 1)).toBe(1);
  });

  it('may give exactly as much as is kept', async () => {
    const { steps } = aBench();
    const most = 'x'.repeat(1024 * 1024 - 2); // and its quotes
    expect(await steps.step('most', () => most)).toBe(most);
    await expect(steps.step('more', () => `${most}x`)).rejects.toMatchObject(INVALID);
  });
});

describe('a transaction', () => {
  const manager = { name: 'the manager' };

  it('by itself is one of its own, with its result in it', async () => {
    const asked: string[] = [];
    const { steps, store, execution } = aBench({ methods: { transaction: async () => aTransaction({ manager }, asked) } });
    expect(await steps.transaction('order', (given) => ({ same: given === manager }))).toEqual({ same: true });
    expect(asked).toEqual(['recordStep', 'commit']);
    expect(store.called('transaction')[0]).toMatchObject([
      execution.ownership,
      { holdsRecord: false, idleMs: 60 * SECOND, connectMs: 5 * SECOND },
    ]);
  });

  it('that fails, or whose owner was superseded, is rolled back', async () => {
    const failure = new Error('sold out');
    const asked: string[] = [];
    const failing = aBench({ methods: { transaction: async () => aTransaction({ manager }, asked) } });
    await expect(failing.steps.transaction('order', () => Promise.reject(failure))).rejects.toBe(failure);
    const superseded = aBench({ methods: { transaction: async () => aTransaction({ manager, recordStep: async () => false }, asked) } });
    await expect(superseded.steps.transaction('order', () => 1)).rejects.toMatchObject(SUPERSEDED);
    expect(asked).toEqual(['rollBack', 'rollBack']);
  });

  it('that is done after the end of its execution is rolled back', async () => {
    const asked: string[] = [];
    const { steps, execution } = aBench({ methods: { transaction: async () => aTransaction({ manager }, asked) } });
    const entering = gate<number>();
    const entry = steps.transaction('order', () => entering.promise);
    await new Promise(setImmediate);
    execution.settling = true;
    entering.open(7);
    await expect(entry).rejects.toMatchObject(SUPERSEDED);
    expect(asked).toEqual(['rollBack']);
  });

  it.each([
    [true, 503],
    [false, 500],
  ])('that is refused at COMMIT (in passing: %p) says so with %d', async (transient, status) => {
    const refused = async () => aTransaction({ manager, commit: async () => ({ kind: 'refused', transient, cause: new Error() }) });
    await expect(aBench({ methods: { transaction: refused } }).steps.transaction('order', () => 1)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_TRANSACTION_FAILED',
      status,
    });
  });

  it.each<['committed' | 'rolled-back' | undefined, string, boolean]>([
    ['committed', 'its result', false],
    ['rolled-back', 'IDEMPOTENCY_STORE_UNAVAILABLE', false],
    [undefined, 'IDEMPOTENCY_STORE_UNAVAILABLE', true],
  ])(
    'of whose COMMIT nobody has heard, and which turns out to be %s, is %s; the key must stay taken: %p',
    async (outcome, what, inDoubt) => {
      const { steps, store, execution } = aBench({
        methods: {
          transaction: async () => aTransaction({ manager, commit: async () => ({ kind: 'unknown', cause: new Error('cut') }) }),
          outcomeOf: async () => outcome,
        },
      });
      const end = await steps.transaction('order', () => 'its result').catch(({ code }: { code: unknown }) => code);
      expect([end, execution.inDoubt]).toEqual([what, inDoubt]);
      expect(store.called('outcomeOf')).toEqual([[execution.ownership, 5 * SECOND, 'order']]);
    },
  );

  it('within an atomic one is a savepoint of it: nothing is recorded, since all commits together', async () => {
    const asked: string[] = [];
    let savepoints = 0;
    const partOf = aTransaction(
      {
        manager,
        savepoint: (work) => {
          savepoints += 1;
          return work();
        },
      },
      asked,
    );
    const { steps, store } = aBench({ partOf, execution: another({ attempt: 2 }) });
    expect(await steps.transaction('order', (given) => ({ same: given === manager, at: new Date(0) }))).toEqual({
      same: true,
      at: new Date(0).toISOString(),
    });
    expect([savepoints, asked, store.calls]).toEqual([1, [], []]);
  });

  it('has no manager to hand out with a pg pool, and says so', async () => {
    await expect(aBench().steps.transaction('order', () => 1)).rejects.toMatchObject({
      ...INVALID,
      message: expect.stringContaining('pg pool'),
    });
  });

  it('can’t be told from a step of the same name', async () => {
    const { steps } = aBench({ methods: { transaction: inTurn<RecordTransaction | undefined>(aTransaction({ manager })) } });
    await steps.step('order', () => 1);
    await expect(steps.transaction('order', () => 1)).rejects.toMatchObject(INVALID);
  });
});

it('derived keys are the same for the same identity and name, and different for all others', () => {
  const one = anAdmission().identity;
  const keyOf = (identity = one, name = 'charge'): string => {
    const { claim, settings, handler, startedAt } = anExecution();
    return new OwnedExecution({
      claim: { ...claim, identity, id: identity.id },
      keyed: true,
      attempt: 1,
      settings,
      handler,
      startedAt,
    }).keyFor(name);
  };
  expect(keyOf()).toBe(keyOf());
  expect(new Set([keyOf(), keyOf(one, 'Charge'), keyOf(anAdmission().identity)]).size).toBe(3);
  expect(keyOf()).toMatch(/^[\w-]{16,64}$/);
});
