import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import type { ClaimResult } from '../../lib/contract/record.js';
import type { Admission } from '../../lib/engine/engine.js';
import { identify } from '../../lib/engine/key.js';
import type { Ending, Verdict } from '../../lib/engine/verdict.js';
import { WaitingRooms } from '../../lib/engine/waiting.js';
import type { Waiter, Wake } from '../../lib/engine/waiting.js';
import { ManualClock, atRest } from '../support/manual-clock.js';
import { ANSWER, CLAIMED, SECOND, aRecord, anAdmission, anEngine, found, gate, outage } from './engine-fixture.js';

const MANY = 10;

/** A room, who waits in it, and what they heard, such as `b: told answer`. */
function aRoom({
  max = MANY,
  isHere = () => false,
  isListening = false,
}: { max?: number; isHere?: () => boolean; isListening?: boolean } = {}) {
  const clock = new ManualClock();
  const ears = new Set<() => void>();
  let rely: ((relies: boolean) => void) | undefined;
  let listened = 0;
  const listen = (_id: string, onHint: () => void, onReliance?: (relies: boolean) => void): (() => void) => {
    ears.add(onHint);
    listened += 1;
    rely = onReliance;
    if (isListening) rely?.(true);
    return () => ears.delete(onHint);
  };
  const rooms = new WaitingRooms<string>(clock, max, isHere, { listen, isListening: () => isListening });
  const heard: string[] = [];
  /** Resolves when whoever that wakes has heard it. */
  const hint = (): Promise<void> => {
    for (const onHint of ears) onHint();
    return atRest();
  };
  const hear = async (name: string, waiter: Waiter<string>): Promise<Wake<string>> => {
    const wake = await waiter.next();
    heard.push(`${name}: ${wake.kind === 'told' ? `told ${wake.news}` : wake.kind}`);
    return wake;
  };
  const enter = (name: string, waitMs = 60 * SECOND, signal?: AbortSignal): { waiter: Waiter<string>; wake: Promise<Wake<string>> } => {
    const waiter = rooms.enter('key', waitMs, signal);
    if (waiter === undefined) throw new Error('There is no place.');
    return { waiter, wake: hear(name, waiter) };
  };
  return { clock, rooms, heard, enter, hear, hint, ears, rely: (relies: boolean) => rely?.(relies), listened: () => listened };
}

describe('a room', () => {
  it('has so many places, of all keys together, and one more when somebody has left', () => {
    const { rooms, enter } = aRoom({ max: 2 });
    const { waiter } = enter('a');
    expect(rooms.enter('another key', SECOND, undefined)).toBeDefined();
    expect(rooms.enter('key', SECOND, undefined)).toBeUndefined();
    waiter.leave();
    expect(rooms.enter('key', SECOND, undefined)).toBeDefined();
  });

  it('tells the news to everybody in it, and to nobody else', async () => {
    const { rooms, heard, enter, hear } = aRoom();
    enter('a');
    enter('b');
    void hear('c', rooms.enter('another key', SECOND, undefined)!);
    rooms.tell('key', 'answer');
    await atRest();
    expect(heard).toEqual(['a: told answer', 'b: told answer']);
  });

  it('sends one scout at a time, ever more seldom', async () => {
    const { clock, heard, enter, hear } = aRoom();
    const people = ['a', 'b', 'c'].map((name) => ({ name, ...enter(name) }));
    await clock.advance(9);
    expect(heard).toEqual([]);
    await clock.advance(1);
    expect(heard).toEqual(['a: look']);
    await clock.advance(SECOND);
    expect(heard).toHaveLength(1); // it is still out
    const pauses: number[] = [];
    for (let i = 0; i < 7; i++) {
      const before = heard.length;
      const scout = people.find(({ name }) => heard.at(-1) === `${name}: look`)!;
      void hear(scout.name, scout.waiter);
      const at = clock.now();
      while (heard.length === before) await clock.advance(1);
      pauses.push(clock.now() - at);
    }
    expect(pauses).toEqual([20, 40, 80, 160, 250, 250, 250]);
  });

  it('sends the next one when the scout has left', async () => {
    const { clock, heard, enter } = aRoom();
    const { waiter } = enter('a');
    enter('b');
    await clock.advance(10);
    waiter.leave();
    await clock.advance(20);
    expect(heard).toEqual(['a: look', 'b: look']);
  });

  it('sends nobody while the execution is at work here, and one as soon as it has failed', async () => {
    let here = true;
    const { clock, rooms, heard, enter } = aRoom({ isHere: () => here });
    enter('a');
    enter('b');
    await clock.advance(30 * SECOND);
    expect(heard).toEqual([]);
    here = false;
    rooms.nudge('key');
    rooms.nudge('key');
    await atRest();
    expect(heard).toEqual(['a: look']);
  });

  it('keeps the news for who is out looking', async () => {
    const { clock, rooms, heard, enter, hear } = aRoom();
    const { waiter } = enter('a');
    await clock.advance(10);
    rooms.tell('key', 'answer');
    await hear('a', waiter);
    expect(heard).toEqual(['a: look', 'a: told answer']);
  });

  it('lets go of who has waited long enough, also while looking', async () => {
    const { clock, heard, enter, hear } = aRoom();
    const { waiter } = enter('a', 100);
    enter('b', 50);
    await clock.advance(50);
    expect(heard).toEqual(['a: look', 'b: over']);
    await clock.advance(50);
    await hear('a', waiter);
    await hear('a', waiter);
    expect(heard.slice(2)).toEqual(['a: over', 'a: over']);
  });

  it('lets go of who is gone, and takes nobody in who is gone already', async () => {
    const { rooms, heard, enter } = aRoom();
    const client = new AbortController();
    enter('a', SECOND, client.signal);
    client.abort();
    await atRest();
    expect(heard).toEqual(['a: over']);
    expect(rooms.enter('key', SECOND, client.signal)).toBeUndefined();
  });

  it('that was closed lets everybody go, and takes nobody in', async () => {
    const { rooms, heard, enter } = aRoom();
    enter('a');
    enter('b');
    rooms.close();
    await atRest();
    expect(heard).toEqual(['a: over', 'b: over']);
    expect(rooms.enter('key', SECOND, undefined)).toBeUndefined();
  });

  it('leaves no timer behind when everybody has left', async () => {
    const { clock, enter } = aRoom();
    const { waiter: a } = enter('a');
    const { waiter: b } = enter('b');
    await clock.advance(10);
    a.leave();
    b.leave();
    expect(clock.pending).toBe(0);
  });

  describe('where many wait', () => {
    const names = Array.from({ length: MANY }, (_, i) => `${i}`);
    const told = names.map((name) => `${name}: told answer`);

    it('sends nobody to look for what is being told', async () => {
      const { clock, rooms, heard, enter, hint, ears } = aRoom({ isListening: true });
      const waiters = names.map((name) => enter(name));
      for (const { waiter, wake } of waiters) void wake.then(() => waiter.leave());
      rooms.tell('key', 'answer');
      void hint();
      await atRest();
      await clock.advance(SECOND);
      expect(heard).toEqual(told);
      expect([ears.size, clock.pending]).toEqual([0, 0]);
    });

    it('listens for nothing any more when they have heard of an end right here', async () => {
      let here = true;
      const { rooms, heard, enter, listened } = aRoom({ isHere: () => here, isListening: true });
      const waiters = names.map((name) => enter(name));
      for (const { waiter, wake } of waiters) void wake.then(() => waiter.leave());
      here = false;
      rooms.tell('key', 'answer');
      await atRest();
      expect([heard, listened()]).toEqual([told, 0]);
    });

    it('sends one of those who go on waiting after they were told', async () => {
      const { clock, rooms, heard, enter, hear } = aRoom();
      const waiters = names.map((name) => ({ name, ...enter(name) }));
      for (const { name, waiter, wake } of waiters) void wake.then(() => hear(name, waiter));
      rooms.tell('key', 'answer');
      await atRest();
      await clock.advance(10);
      expect(heard).toEqual([...told, '0: look']);
    });
  });

  describe('where hints can be relied on', () => {
    it('looks at long pauses only, and at short ones again as soon as that is over', async () => {
      const { clock, heard, enter, hear, rely } = aRoom();
      const { waiter } = enter('a');
      await clock.advance(10);
      void hear('a', waiter);
      await clock.advance(5); // the second pause is under way
      rely(true);
      await clock.advance(249);
      expect(heard).toHaveLength(1);
      await clock.advance(1);
      expect(heard).toHaveLength(2);
      void hear('a', waiter);
      await clock.advance(100);
      rely(false);
      const pauses: number[] = [];
      for (let i = 0; i < 3; i += 1) {
        const [before, at] = [heard.length, clock.now()];
        while (heard.length === before) await clock.advance(1);
        pauses.push(clock.now() - at);
        void hear('a', waiter);
      }
      expect(pauses).toEqual([10, 20, 40]);
    });

    it('looks at once all the same when there is a hint', async () => {
      const { clock, heard, enter, hint } = aRoom({ isListening: true });
      enter('a');
      await clock.advance(100);
      expect(heard).toEqual([]);
      await hint();
      expect(heard).toEqual(['a: look']);
    });

    it('listens at once, without a look in vain, where that is done already', () => {
      const { enter, ears } = aRoom({ isListening: true });
      enter('a');
      enter('b');
      expect(ears.size).toBe(1);
    });
  });

  describe('with hints from elsewhere', () => {
    it('listens once a look was in vain, and a hint sends the scout while the clock stands still', async () => {
      const { clock, heard, enter, hear, hint, ears } = aRoom();
      const { waiter } = enter('a');
      await clock.advance(10);
      expect(ears.size).toBe(0);
      void hear('a', waiter);
      expect(ears.size).toBe(1);
      await hint();
      expect(heard).toEqual(['a: look', 'a: look']);
      void hear('a', waiter);
      await clock.advance(20);
      expect(heard).toHaveLength(3); // it goes by itself all the same
      expect(ears.size).toBe(1);
    });

    it('sends the scout once more for a hint that came while it was out, and once for any number', async () => {
      const { clock, heard, enter, hear, hint } = aRoom();
      const { waiter } = enter('a');
      await clock.advance(10);
      void hear('a', waiter);
      await hint();
      await hint();
      await hint();
      expect(heard).toEqual(['a: look', 'a: look']);
      void hear('a', waiter);
      await atRest();
      expect(heard).toHaveLength(3);
      void hear('a', waiter);
      await atRest();
      expect(heard).toHaveLength(3);
    });

    it('sends somebody else when the scout does not come back', async () => {
      const { clock, heard, enter, hear, hint } = aRoom();
      const { waiter } = enter('a');
      enter('b');
      await clock.advance(10);
      void hear('a', waiter);
      await hint();
      await hint();
      waiter.leave();
      await atRest();
      expect(heard).toEqual(['a: look', 'a: look', 'b: look']);
    });

    it('listens no longer when everybody has left', async () => {
      const { clock, enter, hear, ears } = aRoom();
      const { waiter: a } = enter('a');
      const { waiter: b } = enter('b');
      await clock.advance(10);
      void hear('a', a);
      a.leave();
      expect(ears.size).toBe(1);
      b.leave();
      expect(ears.size).toBe(0);
    });

    it('hears no hint while the execution is at work here, and listens no longer when that is noticed', async () => {
      let here = false;
      const { clock, heard, enter, hear, hint, ears } = aRoom({ isHere: () => here });
      const { waiter: a } = enter('a');
      enter('b');
      await clock.advance(10);
      void hear('a', a);
      here = true;
      await hint();
      await clock.advance(SECOND);
      expect(heard).toEqual(['a: look']);
      expect(ears.size).toBe(1);
      a.leave();
      expect(ears.size).toBe(0);
    });
  });
});

describe('requests that would wait', () => {
  const KEEP: Ending = { kind: 'keep', answer: ANSWER, undo: false };
  const identity = identify('id=1', '', 'one key');
  const waiting = (fields: Partial<Omit<Admission, 'settings'>> = {}): Admission =>
    anAdmission({ identity, ...fields }, { waitMs: 10 * SECOND });
  const kinds = (verdicts: readonly Verdict[]): string[] =>
    verdicts.map((verdict) => (verdict.kind === 'refuse' ? verdict.error.code : verdict.kind));

  it('cost one claim, however many come: with the first one, and while it runs', async () => {
    const claiming = gate<ClaimResult>();
    const bench = anEngine({ claim: () => claiming.promise });
    const first = bench.engine.begin(waiting());
    const others = Array.from({ length: 50 }, () => bench.engine.begin(waiting()));
    claiming.open(CLAIMED);
    const verdict = await first;
    others.push(...Array.from({ length: 50 }, () => bench.engine.begin(waiting())));
    await bench.clock.advance(5 * SECOND);
    expect(bench.store.called('claim')).toHaveLength(1);
    if (verdict.kind !== 'run') throw new Error(verdict.kind);
    await bench.engine.settle(verdict.execution, KEEP);
    for (const other of await Promise.all(others)) expect(other).toEqual({ kind: 'replay', answer: ANSWER });
    expect(bench.store.called('claim')).toHaveLength(1);
    expect(bench.log.types.filter((type) => type === 'replayed')).toHaveLength(100);
    await bench.engine.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('hear what the first one finds', async () => {
    const claiming = gate<ClaimResult>();
    const { engine, store } = anEngine({ claim: () => claiming.promise });
    const all = Array.from({ length: 20 }, () => engine.begin(waiting()));
    claiming.open(found(aRecord('sealed')));
    expect(kinds(await Promise.all(all))).toEqual(Array(20).fill('IDEMPOTENCY_RESULT_NOT_REPLAYABLE'));
    expect(store.called('claim')).toHaveLength(1);
  });

  it('with the same key and another fingerprint are refused at once, and wait for nothing', async () => {
    const claiming = gate<ClaimResult>();
    const { engine, store } = anEngine({ claim: () => claiming.promise });
    const first = engine.begin(waiting());
    const other = randomBytes(32);
    const early = engine.begin(waiting({ fingerprint: other }));
    claiming.open(CLAIMED);
    expect(kinds(await Promise.all([first, early]))).toEqual(['run', 'IDEMPOTENCY_KEY_REUSED']);
    expect(kinds([await engine.begin(waiting({ fingerprint: other }))])).toEqual(['IDEMPOTENCY_KEY_REUSED']);
    expect(store.called('claim')).toHaveLength(1);
  });

  it('are refused in time, all of them, when the first one can’t reach the store', async () => {
    const claiming = gate<ClaimResult>();
    const { engine, log } = anEngine({ claim: () => claiming.promise });
    const all = Array.from({ length: 20 }, () => engine.begin(waiting()));
    claiming.fail(outage());
    expect(kinds(await Promise.all(all))).toEqual(Array(20).fill('IDEMPOTENCY_STORE_UNAVAILABLE'));
    expect(log.types.filter((type) => type === 'store-failed')).toHaveLength(1);
  });

  it('run unprotected then, where their route says so', async () => {
    const claiming = gate<ClaimResult>();
    const { engine } = anEngine({ claim: () => claiming.promise });
    const bypassing = anAdmission({ identity }, { waitMs: 10 * SECOND, onStoreFailure: 'bypass' });
    const all = Array.from({ length: 3 }, () => engine.begin(bypassing));
    claiming.fail(outage());
    expect(kinds(await Promise.all(all))).toEqual(Array(3).fill('bypass'));
  });

  it('take over one by one when executions fail', async () => {
    const bench = anEngine();
    const first = await bench.run(waiting());
    const others = [1, 2].map(() => bench.engine.begin(waiting()));
    await bench.engine.settle(first, { kind: 'free' });
    const second = await Promise.race(others);
    expect(second.kind).toBe('run');
    expect(bench.store.called('claim')).toHaveLength(2);
    if (second.kind === 'run') await bench.engine.settle(second.execution, KEEP);
    expect(kinds(await Promise.all(others)).sort()).toEqual(['replay', 'run']);
  });

  it('ask again and again where the first one runs elsewhere, one of them at a time', async () => {
    let answer = found(aRecord('running'));
    const bench = anEngine({ claim: async () => answer });
    const all = Array.from({ length: 20 }, () => bench.engine.begin(waiting()));
    await bench.clock.advance(SECOND);
    const asked = bench.store.called('claim').length;
    expect(asked).toBeGreaterThan(3);
    expect(asked).toBeLessThan(12);
    answer = found(aRecord('completed'));
    await bench.clock.advance(SECOND);
    expect(kinds(await Promise.all(all))).toEqual(Array(20).fill('replay'));
    expect(bench.store.called('claim').length).toBeLessThanOrEqual(asked + 1);
  });

  it('look at once when there is a hint, and listen together', async () => {
    let answer = found(aRecord('running'));
    const ears = new Set<() => void>();
    const bench = anEngine({
      claim: async () => answer,
      listen: (_id, onHint) => {
        ears.add(onHint);
        return () => ears.delete(onHint);
      },
    });
    const all = Array.from({ length: 20 }, () => bench.engine.begin(waiting()));
    await bench.clock.advance(10);
    expect(bench.store.called('listen').map(([id]) => id)).toEqual([identity.id]);
    const asked = bench.store.called('claim').length;
    answer = found(aRecord('completed'));
    for (const onHint of ears) onHint();
    expect(kinds(await Promise.all(all))).toEqual(Array(20).fill('replay')); // the clock has not moved
    expect(bench.store.called('claim')).toHaveLength(asked + 1);
    expect(ears.size).toBe(0);
  });

  it('take over at a hint, one of them, when the first one has failed elsewhere', async () => {
    let answer: ClaimResult = found(aRecord('running'));
    let hint = (): void => undefined;
    const bench = anEngine({
      claim: async () => answer,
      listen: (_id, onHint) => {
        hint = onHint;
        return () => undefined;
      },
    });
    const all = Array.from({ length: 3 }, () => bench.engine.begin(waiting()));
    await bench.clock.advance(10);
    answer = CLAIMED;
    hint();
    const first = await Promise.race(all);
    answer = found(aRecord('running'));
    hint(); // late: it runs here by now
    if (first.kind !== 'run') throw new Error(first.kind);
    await bench.engine.settle(first.execution, KEEP);
    expect(kinds(await Promise.all(all)).sort()).toEqual(['replay', 'replay', 'run']);
  });

  it('listen to nobody where the first one runs here', async () => {
    const bench = anEngine();
    const first = await bench.run(waiting());
    const others = Array.from({ length: 3 }, () => bench.engine.begin(waiting()));
    await bench.clock.advance(SECOND);
    await bench.engine.settle(first, KEEP);
    await Promise.all(others);
    expect(bench.store.called('listen')).toEqual([]);
  });

  it('are refused when their time is over, and when they come too late to wait', async () => {
    const bench = anEngine({ claim: async () => found(aRecord('running')) });
    const patient = bench.engine.begin(waiting());
    await bench.clock.advance(10 * SECOND);
    expect(kinds([await patient])).toEqual(['IDEMPOTENCY_KEY_IN_USE']);
    const claiming = gate<ClaimResult>();
    Object.assign(bench.store, { claim: () => claiming.promise });
    const late = bench.engine.begin(waiting());
    const draining = bench.engine.drain(30 * SECOND);
    claiming.open(found(aRecord('running')));
    expect(kinds([await late])).toEqual(['IDEMPOTENCY_KEY_IN_USE']);
    await draining;
  });
});
