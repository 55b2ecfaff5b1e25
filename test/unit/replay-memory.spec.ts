import { describe, expect, it } from '@jest/globals';
import type { FoundRecord, Identity } from '../../lib/contract/record.js';
import { identify } from '../../lib/engine/key.js';
import { HOT_READS, MAX_ANSWER_BYTES, MAX_BYTES, MAX_KEYS, MOMENT_MS, ReplayMemory } from '../../lib/engine/replay-memory.js';
import { ManualClock } from '../support/manual-clock.js';
import { ANSWER, aRecord } from './engine-fixture.js';

type Completed = Extract<FoundRecord, { state: 'completed' }>;

const named = (key: string, scope = 'id=1'): Identity => identify(scope, '', key);
const completed = (fields: Partial<Completed> = {}): Completed => aRecord('completed', fields) as Completed;
const answerOf = (bytes: number): Completed => completed({ answer: { ...ANSWER, headers: [], body: Buffer.alloc(bytes) } });

function aMemory() {
  const clock = new ManualClock();
  const memory = new ReplayMemory(clock);
  /** Reads so often that it is hot. */
  const heat = (identity: Identity, record = completed()): void => {
    for (let read = 0; read < HOT_READS; read++) memory.note(identity, record, clock.now());
  };
  const isKept = (identity: Identity): boolean => memory.recall(identity.id) !== undefined;
  return { clock, memory, heat, isKept };
}

describe('an answer', () => {
  const key = named('a key');

  it('is kept once it has been read so many times in a second, and not before', () => {
    const { clock, memory } = aMemory();
    const record = completed();
    for (let read = 1; read < HOT_READS; read++) {
      memory.note(key, record, clock.now());
      expect(memory.recall(key.id)).toBeUndefined();
    }
    memory.note(key, record, clock.now());
    expect(memory.recall(key.id)).toEqual(record);
  });

  it('is not kept however often it is read, if never so often in a second', async () => {
    const { clock, memory, isKept } = aMemory();
    for (let read = 0; read < 10 * HOT_READS; read++) {
      memory.note(key, completed(), clock.now());
      expect(isKept(key)).toBe(false);
      await clock.advance(MOMENT_MS / (HOT_READS - 2));
    }
  });

  it('is said for a second, which counts from before it was read', async () => {
    const { clock, memory, heat, isKept } = aMemory();
    heat(key);
    const readAt = clock.now();
    await clock.advance(200);
    memory.note(key, completed(), readAt);
    await clock.advance(MOMENT_MS - 200 - 1);
    expect(isKept(key)).toBe(true);
    await clock.advance(1);
    expect(isKept(key)).toBe(false);
  });

  it('is never said after its own end, as it was told by that read', async () => {
    const { clock, memory, heat, isKept } = aMemory();
    heat(key);
    const readAt = clock.now();
    await clock.advance(100);
    memory.note(key, completed({ retentionLeftMs: 300 }), readAt);
    await clock.advance(199);
    expect(isKept(key)).toBe(true);
    await clock.advance(1);
    expect(isKept(key)).toBe(false);
  });

  it('whose read took longer than it counts for is not kept', async () => {
    const { clock, memory, heat, isKept } = aMemory();
    const readAt = clock.now();
    await clock.advance(MOMENT_MS);
    for (let read = 1; read < HOT_READS; read++) memory.note(key, completed(), clock.now());
    memory.note(key, completed(), readAt);
    expect(isKept(key)).toBe(false);
    heat(key);
    expect(isKept(key)).toBe(true);
  });

  it('that stays hot is read once in a second', async () => {
    const { clock, memory, heat, isKept } = aMemory();
    heat(key);
    let reads = 0;
    for (let asked = 0; asked < 400; asked++) {
      await clock.advance(25);
      if (isKept(key)) continue;
      memory.note(key, completed(), clock.now());
      reads += 1;
    }
    expect(reads).toBe((400 * 25) / MOMENT_MS);
  });

  it('that is asked for less is read every time again', async () => {
    const { clock, memory, heat, isKept } = aMemory();
    heat(key);
    await clock.advance(2 * MOMENT_MS);
    for (let read = 0; read < 5; read++) {
      memory.note(key, completed(), clock.now());
      expect(isKept(key)).toBe(false);
      await clock.advance(100);
    }
  });

  it('is not said after somebody has removed it, and must become hot again', () => {
    const { clock, memory, heat, isKept } = aMemory();
    const other = named('another key');
    for (const each of [key, other]) heat(each);
    memory.drop(({ id }) => id === key.id);
    expect([isKept(key), isKept(other)]).toEqual([false, true]);
    memory.note(key, completed(), clock.now());
    expect(isKept(key)).toBe(false);
  });

  it('lies there in clear no longer than it is said, whether anybody asks or not, and not after the end', async () => {
    const { clock, memory, heat } = aMemory();
    heat(key);
    heat(named('an empty one'), completed({ answer: { status: 204, headers: [], body: Buffer.alloc(0) } }));
    expect(clock.pending).toBe(1);
    await clock.advance(MOMENT_MS);
    expect(clock.pending).toBe(0); // nothing is left to be cleared away
    heat(key);
    memory.close();
    heat(key);
    expect([clock.pending, memory.recall(key.id)]).toEqual([0, undefined]);
  });
});

describe('the memory', () => {
  it('keeps no answer that is larger than what is sent as quickly as it is read', () => {
    const { heat, isKept } = aMemory();
    const [large, larger] = [named('large'), named('larger')];
    heat(large, answerOf(MAX_ANSWER_BYTES - 512));
    heat(larger, answerOf(MAX_ANSWER_BYTES + 1));
    expect([isKept(large), isKept(larger)]).toEqual([true, false]);
  });

  it('keeps so many bytes in all, and those that were asked for last', () => {
    const { heat, isKept } = aMemory();
    const count = MAX_BYTES / MAX_ANSWER_BYTES + 2;
    const keys = Array.from({ length: count }, (_, i) => named(`key ${i}`));
    for (const [i, key] of keys.entries()) {
      heat(key, answerOf(MAX_ANSWER_BYTES - 512));
      expect(isKept(key)).toBe(true);
      if (i > 0) expect(isKept(keys[0]!)).toBe(true); // asked for again each time
    }
    expect(keys.map(isKept)).toEqual(keys.map((_, i) => i !== 1 && i !== 2));
  });

  it('watches so many keys, and lets go of the one that was asked for least recently', () => {
    const { heat, memory, clock, isKept } = aMemory();
    const read = (name: string, times: number): void => {
      for (let i = 0; i < times; i++) memory.note(named(name), completed(), clock.now());
    };
    const hot = named('hot');
    heat(hot);
    for (let i = 1; i < MAX_KEYS; i++) read(`key ${i}`, 2);
    expect(isKept(hot)).toBe(true);
    read('one more', 2);
    expect(isKept(hot)).toBe(true);
    for (let i = 0; i < MAX_KEYS; i++) read(`other ${i}`, 2);
    expect(isKept(hot)).toBe(false);
  });

  it('counts from the start again for a key that was dropped', () => {
    const { memory, clock, isKept } = aMemory();
    const key = named('key');
    const read = (times: number): void => {
      for (let i = 0; i < times; i++) memory.note(key, completed(), clock.now());
    };
    read(HOT_READS);
    memory.drop(() => true);
    read(HOT_READS - 1);
    expect(isKept(key)).toBe(false);
    read(1);
    expect(isKept(key)).toBe(true);
  });

  it('lets go of none for any number of keys that come once', () => {
    const { heat, memory, clock, isKept } = aMemory();
    const hot = named('hot');
    heat(hot);
    for (let i = 0; i < 3 * MAX_KEYS; i++) memory.note(named(`key ${i}`), completed(), clock.now());
    expect(isKept(hot)).toBe(true);
  });

  it('has the answer itself, and not what it was opened from', () => {
    const { memory, heat } = aMemory();
    let opened = 0;
    const { answer, ...others } = completed();
    const lazy: Completed = {
      ...others,
      get answer() {
        opened += 1;
        return answer;
      },
    };
    heat(named('sealed'), lazy);
    const before = opened;
    for (let i = 0; i < 5; i++) expect(memory.recall(named('sealed').id)?.answer).toBe(answer);
    expect(opened).toBe(before);
  });
});
