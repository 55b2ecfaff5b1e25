/** The times that events tell, by a clock that the test turns, and that every execution’s end is told. */
import { describe, expect, it } from '@jest/globals';
import { ANSWER, CLAIMED, aRecord, anAdmission, anEngine, found } from './engine-fixture.js';

describe('the times of an execution', () => {
  it('are those of its claim, of its handler and of its completion', async () => {
    const bench = anEngine({
      claim: async () => {
        await bench.clock.advance(3);
        return CLAIMED;
      },
      complete: async () => {
        await bench.clock.advance(5);
        return { kind: 'settled' };
      },
    });
    const execution = await bench.run();
    await bench.clock.advance(40);
    await bench.engine.settle(execution, { kind: 'keep', answer: ANSWER, undo: false });
    expect(bench.log.events).toMatchObject([
      { type: 'claimed', durationMs: 3 },
      { type: 'completed', durationMs: 48, handlerMs: 40, completionMs: 5 },
    ]);
    expect(bench.log.events[0]).not.toHaveProperty('waitedMs');
  });
});

describe('the time of a request that waits', () => {
  it('is told with the replay that it waited for', async () => {
    const { engine, clock, log, run } = anEngine();
    const admission = anAdmission({ waitMs: 1000 });
    const execution = await run(admission);
    const second = engine.begin(admission);
    await clock.advance(200);
    await engine.settle(execution, { kind: 'keep', answer: ANSWER, undo: false });
    await second;
    expect(log.events.at(-1)).toMatchObject({ type: 'replayed', waitedMs: 200 });
  });

  it('is told with the refusal that ends it', async () => {
    const { engine, clock, log } = anEngine({ claim: async () => found(aRecord('running')) });
    const waiting = engine.begin(anAdmission({ waitMs: 1000 }));
    await clock.advance(1000);
    await waiting;
    expect(log.events).toMatchObject([{ type: 'rejected', code: 'IDEMPOTENCY_KEY_IN_USE', waitedMs: 1000 }]);
  });

  it('is told with the claim when it takes over, whose own time is apart from it', async () => {
    const { engine, clock, log, run } = anEngine();
    const first = anAdmission({ waitMs: 1000 });
    const execution = await run(first);
    const second = engine.begin({ ...first });
    await clock.advance(200);
    await engine.settle(execution, { kind: 'free' });
    await second;
    expect(log.events.at(-1)).toMatchObject({ type: 'claimed', durationMs: 0, waitedMs: 200 });
  });

  it('is not told of one that did not wait', async () => {
    const { engine, log } = anEngine({ claim: async () => found(aRecord('running')) });
    await engine.begin(anAdmission());
    expect(log.events[0]).not.toHaveProperty('waitedMs');
  });
});

describe('the end of an execution', () => {
  it('is told even if its key is left to its lease, since something of it may still be committed', async () => {
    const { engine, log, run } = anEngine();
    const execution = await run();
    execution.inDoubt = true;
    await engine.settle(execution, { kind: 'free' });
    expect(log.events).toMatchObject([{ type: 'claimed' }, { type: 'store-failed', attempt: 1 }]);
  });

  it('tells its attempt, which a request at the door has none of', async () => {
    const { engine, log, run } = anEngine({ complete: async () => ({ kind: 'superseded', record: undefined }) });
    const execution = await run();
    await engine.settle(execution, { kind: 'keep', answer: ANSWER, undo: false });
    await engine.drain(0);
    await engine.begin(anAdmission());
    expect(log.events.map(({ type, attempt }) => [type, attempt])).toEqual([
      ['claimed', 1],
      ['lock-lost', 1],
      ['rejected', 1],
      ['rejected', undefined],
    ]);
  });
});
