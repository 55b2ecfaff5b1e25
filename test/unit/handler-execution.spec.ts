import { describe, expect, it } from '@jest/globals';
import { HandlerExecution } from '../../lib/nest/handler-execution.js';
import { withFrame, withinStep } from '../../lib/nest/context.js';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { aTransaction, anExecution, fakeStore } from './engine-fixture.js';

const manager = { name: 'the manager' };

function inAtomicMode(transaction: RecordTransaction = aTransaction({ manager })) {
  const owned = anExecution();
  owned.transaction = transaction;
  return { owned, transaction, execution: new HandlerExecution(owned, fakeStore(), owned.identity.key) };
}

/** As the interceptor does it. */
const within = <T>(execution: HandlerExecution, work: () => T): T =>
  withFrame({ instance: execution, execution, handlerToken: execution, run: undefined }, work);

describe('an execution in a handler’s hands', () => {
  it('tells whose it is, and that the lease was lost', () => {
    const owned = anExecution();
    const execution = new HandlerExecution(owned, fakeStore(), owned.identity.key);
    expect([execution.key, execution.scope, execution.attempt, execution.keyFor('charge')]).toEqual([
      owned.identity.key,
      'id=1',
      1,
      owned.keyFor('charge'),
    ]);
    expect(execution.signal.aborted).toBe(false);
    owned.lose();
    expect(execution.signal.aborted).toBe(true);
  });

  it('is made when it is asked for something, and once', () => {
    let made = 0;
    const owned = anExecution();
    const execution = new HandlerExecution(
      () => {
        made += 1;
        return owned;
      },
      fakeStore(),
      undefined,
    );
    expect([execution.key, made]).toEqual([undefined, 0]);
    expect([execution.attempt, execution.scope, made]).toEqual([1, 'id=1', 1]);
  });

  it('has the transaction’s manager and client in atomic mode', () => {
    const { execution, transaction } = inAtomicMode();
    expect(execution.manager).toBe(manager);
    expect(execution.client).toBe(transaction.client);
  });

  it('has those of a transaction that was begun anew', () => {
    const { execution, owned } = inAtomicMode();
    const next = aTransaction({ manager: { name: 'another' } });
    owned.transaction = next;
    expect([execution.manager, execution.client]).toEqual([next.manager, next.client]);
  });

  it('has those of the execution in which it takes part', () => {
    const { owned, transaction } = inAtomicMode();
    const part = anExecution();
    const execution = new HandlerExecution(part, fakeStore(), part.identity.key, { execution: owned, transaction });
    expect([execution.manager, execution.client]).toEqual([manager, transaction.client]);
    expect(execution.partOf?.execution).toBe(owned);
  });

  it.each<[string, HandlerExecution, RegExp]>([
    ['plain mode', new HandlerExecution(anExecution(), fakeStore(), 'key'), /atomic: true/],
    ['a pg pool', inAtomicMode(aTransaction()).execution, /pg pool/],
  ])('says what to do where there is no manager: %s', (_, execution, message) => {
    expect(() => execution.manager).toThrow(message);
  });

  it('keeps them out of a step’s work, and hands them out again after it', async () => {
    const { execution, transaction } = inAtomicMode();
    await within(execution, async () => {
      await execution.step('charge', () => {
        expect(() => execution.manager).toThrow("within a step's work");
        expect(() => execution.client).toThrow("within a step's work");
      });
      expect(execution.client).toBe(transaction.client);
    });
  });

  it('keeps them out of a step’s work wherever that goes on, and only there', async () => {
    const { execution } = inAtomicMode();
    await within(execution, async () => {
      const inStep = withinStep(execution, async () => {
        await new Promise(setImmediate);
        return execution.manager;
      });
      expect(execution.manager).toBe(manager);
      await expect(inStep).rejects.toThrow("within a step's work");
    });
  });

  it('counts its steps’ names over all calls', async () => {
    const owned = anExecution();
    const execution = new HandlerExecution(owned, fakeStore(), owned.identity.key);
    await execution.step('charge', () => 1);
    await expect(execution.step('charge', () => 1)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STEP_INVALID' });
  });
});
