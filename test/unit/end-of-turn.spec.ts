/** What need not be waited for is told at the end of the event loop's turn, so that answers leave together. */
import { describe, expect, it, jest } from '@jest/globals';
import { EndOfTurn } from '../../lib/engine/end-of-turn.js';
import { HOT_READS } from '../../lib/engine/replay-memory.js';
import type { Ending } from '../../lib/engine/verdict.js';
import { ANSWER, SECOND, aRecord, aTransaction, anAdmission, anEngine, found, gate } from './engine-fixture.js';

const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };
const atomically = () => anAdmission({}, { atomic: { isolation: undefined, retries: 0 }, durableClaim: false });

/** Far more promises than anything here has one after another, all within the turn. */
async function restOfTurn(): Promise<void> {
  for (let i = 0; i < 100; i++) await Promise.resolve();
}

const endOfTurn = async (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe('the end of a turn', () => {
  it('comes once for all who wait for it, in their order, and not before', async () => {
    const immediates = jest.spyOn(globalThis, 'setImmediate');
    try {
      const turn = new EndOfTurn();
      const told: number[] = [];
      for (const n of [1, 2, 3]) void turn.tell(n).then((value) => told.push(value));
      await restOfTurn();
      expect([told, immediates.mock.calls.length]).toEqual([[], 1]);
      await endOfTurn();
      expect(told).toEqual([1, 2, 3]);
    } finally {
      immediates.mockRestore();
    }
  });

  it('comes again for who asks at one', async () => {
    const turn = new EndOfTurn();
    const again = await turn.tell('one').then((first) => turn.tell(`${first}, two`));
    expect(again).toBe('one, two');
  });
});

describe('is awaited by', () => {
  it('a replay from memory', async () => {
    const { engine } = anEngine({ claim: async () => found(aRecord('completed')) });
    const request = anAdmission();
    for (let read = 0; read < HOT_READS; read++) await engine.begin(request);
    const told: string[] = [];
    for (const name of ['one', 'another']) void engine.begin(request).then(({ kind }) => told.push(`${name} ${kind}`));
    await restOfTurn();
    expect(told).toEqual([]);
    await endOfTurn();
    expect(told).toEqual(['one replay', 'another replay']);
  });

  it('a refusal of what is at work in this process', async () => {
    const { engine } = anEngine();
    const request = anAdmission();
    await engine.begin(request);
    const told: string[] = [];
    void engine.begin(request).then(({ kind }) => told.push(kind));
    await restOfTurn();
    expect(told).toEqual([]);
    await endOfTurn();
    expect(told).toEqual(['refuse']);
  });

  it('an answer that has been committed with its rows', async () => {
    const { engine, run } = anEngine();
    const execution = await run(atomically());
    const told: string[] = [];
    void engine.settle(execution, KEEP).then(({ kind }) => told.push(kind));
    await restOfTurn();
    expect(told).toEqual([]);
    await endOfTurn();
    expect(told).toEqual(['send']);
  });

  it('nobody whose claim or answer comes from the store, who waits for that already', async () => {
    const { engine, run } = anEngine();
    const execution = await run(anAdmission());
    const told: string[] = [];
    void engine.begin(anAdmission()).then(({ kind }) => told.push(kind));
    void engine.settle(execution, KEEP).then(({ kind }) => told.push(kind));
    await restOfTurn();
    expect(told.toSorted()).toEqual(['run', 'send']);
  });

  it('a drain, before which everybody is told', async () => {
    const commit = gate<{ kind: 'committed' }>();
    const bench = anEngine({ transaction: async () => aTransaction({ commit: () => commit.promise }) });
    const execution = await bench.run(atomically());
    const order: string[] = [];
    void bench.engine.settle(execution, KEEP).then(() => order.push('answered'));
    const draining = bench.engine.drain(30 * SECOND).then(() => order.push('drained'));
    commit.open({ kind: 'committed' });
    await draining;
    expect(order).toEqual(['answered', 'drained']);
  });
});
