import { describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { RecordUnreadable } from '../../lib/contract/errors.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import { Sealing, WITHOUT_KEYS, sealingKey } from '../../lib/engine/sealing.js';
import { ANSWER } from './engine-fixture.js';

const ID = randomUUID();
const STEP = { name: 'charge', result: Buffer.from('{"charge":"ch_1"}') };
const [FIRST, SECOND] = [sealingKey(randomBytes(32)), sealingKey(randomBytes(32))];

const sealingWith = (...keys: (typeof FIRST)[]): Sealing => new Sealing({ keys, acceptPlain: false, writePlain: false });
const remedyOf = (work: () => unknown): string | undefined => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(RecordUnreadable);
    return (error as RecordUnreadable).remedy;
  }
  throw new Error('It was opened.');
};

/** The same with one bit of the byte at `index` turned; negative ones count from the end. */
function turned(bytes: Buffer, index: number): Buffer {
  const copy = Buffer.from(bytes);
  const at = index < 0 ? copy.length + index : index;
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

describe('what was sealed', () => {
  const sealing = sealingWith(FIRST);

  it.each<[string, RecordedResponse]>([
    ['an answer', ANSWER],
    ['an empty one', { status: 204, headers: [], body: Buffer.alloc(0) }],
    [
      'one with every byte',
      { status: 200, headers: [['link', ['</a>', '</b>']]], body: Buffer.from(Array.from({ length: 256 }, (_, i) => i)) },
    ],
  ])('is opened as it was: %s', (_, answer) => {
    expect(sealing.openAnswer(ID, sealing.sealAnswer(ID, answer))).toEqual(answer);
  });

  it('is opened as it was: a step, and one without a result', () => {
    for (const step of [STEP, { ...STEP, result: Buffer.alloc(0) }]) expect(sealing.openStep(ID, sealing.sealStep(ID, step))).toEqual(step);
  });

  it('shows the status and nothing else', () => {
    const { status, headers, body } = sealing.sealAnswer(ID, ANSWER);
    expect([status, headers]).toEqual([201, [[':sealed', '1']]]);
    expect(body.includes('paid')).toBe(false);
    expect(body.includes('json')).toBe(false);
  });

  it('is never the same bytes twice', () => {
    expect(sealing.sealAnswer(ID, ANSWER).body).not.toEqual(sealing.sealAnswer(ID, ANSWER).body);
  });

  it('is the length of its content and 41 bytes', () => {
    expect(sealing.sealStep(ID, STEP).result).toHaveLength(STEP.result.length + 1 + 8 + 12 + 16);
  });

  it.each([
    ['format', 0],
    ['key id', 1],
    ['key id', 8],
    ['IV', 9],
    ['IV', 20],
    ['content', 21],
    ['content', -17],
    ['tag', -16],
    ['tag', -1],
  ])('is refused when a bit of its %s is turned (byte %i)', (_, index) => {
    const answer = sealing.sealAnswer(ID, ANSWER);
    remedyOf(() => sealing.openAnswer(ID, { ...answer, body: turned(answer.body, index) }));
    const step = sealing.sealStep(ID, STEP);
    remedyOf(() => sealing.openStep(ID, { ...step, result: turned(step.result, index) }));
  });

  it('is refused when it is cut, wherever', () => {
    const answer = sealing.sealAnswer(ID, ANSWER);
    for (let length = 0; length < answer.body.length; length++)
      remedyOf(() => sealing.openAnswer(ID, { ...answer, body: answer.body.subarray(0, length) }));
  });

  it('belongs to its record, its status, its step', () => {
    const answer = sealing.sealAnswer(ID, ANSWER);
    const step = sealing.sealStep(ID, STEP);
    expect(remedyOf(() => sealing.openAnswer(randomUUID(), answer))).toMatch(/put in the place of another one/);
    expect(remedyOf(() => sealing.openAnswer(ID, { ...answer, status: 200 }))).toMatch(/changed/);
    expect(remedyOf(() => sealing.openStep(randomUUID(), step))).toMatch(/put in the place of another one/);
    expect(remedyOf(() => sealing.openStep(ID, { ...step, name: 'refund' }))).toMatch(/changed/);
    expect(remedyOf(() => sealing.openStep(ID, { name: 'charge', result: answer.body }))).toMatch(/changed/);
    expect(remedyOf(() => sealing.openAnswer(ID, { ...answer, body: step.result }))).toMatch(/changed/);
  });

  it('of a later format is told from a damaged one', () => {
    const step = sealing.sealStep(ID, STEP);
    const later = Buffer.concat([Buffer.of(2), step.result.subarray(1)]);
    expect(remedyOf(() => sealing.openStep(ID, { ...step, result: later }))).toMatch(/form that this version/);
  });

  it('is opened by whichever key sealed it, and sealed by the first', () => {
    const before = sealingWith(FIRST).sealAnswer(ID, ANSWER);
    expect(sealingWith(SECOND, FIRST).openAnswer(ID, before)).toEqual(ANSWER);
    const after = sealingWith(SECOND, FIRST).sealAnswer(ID, ANSWER);
    expect(sealingWith(SECOND).openAnswer(ID, after)).toEqual(ANSWER);
    expect(remedyOf(() => sealingWith(FIRST).openAnswer(ID, after))).toMatch(/not among encryption.keys/);
  });

  it('is refused without keys', () => {
    const off = new Sealing(WITHOUT_KEYS);
    expect(remedyOf(() => off.openAnswer(ID, sealing.sealAnswer(ID, ANSWER)))).toMatch(/option encryption/);
    expect(remedyOf(() => off.openStep(ID, sealing.sealStep(ID, STEP)))).toMatch(/option encryption/);
  });
});

describe('what is plain', () => {
  it('is refused where there are keys', () => {
    expect(remedyOf(() => sealingWith(FIRST).openAnswer(ID, ANSWER))).toMatch(/acceptPlain/);
    expect(remedyOf(() => sealingWith(FIRST).openStep(ID, STEP))).toMatch(/acceptPlain/);
  });

  it('is believed while it is accepted, also a step without a result', () => {
    const between = new Sealing({ keys: [FIRST], acceptPlain: true, writePlain: false });
    expect(between.openAnswer(ID, ANSWER)).toEqual(ANSWER);
    for (const step of [STEP, { ...STEP, result: Buffer.alloc(0) }]) expect(between.openStep(ID, step)).toEqual(step);
  });

  it('is written as long as nothing is to be sealed yet, and what others have sealed is opened', () => {
    const reader = new Sealing({ keys: [FIRST], acceptPlain: true, writePlain: true });
    expect([reader.sealAnswer(ID, ANSWER), reader.sealStep(ID, STEP)]).toEqual([ANSWER, STEP]);
    expect(reader.openAnswer(ID, sealingWith(FIRST).sealAnswer(ID, ANSWER))).toEqual(ANSWER);
  });

  it('can’t be taken for sealed, whatever a step returns', () => {
    const off = new Sealing(WITHOUT_KEYS);
    const sealed = sealingWith(FIRST).sealStep(ID, STEP).result;
    for (const value of [sealed.toString('latin1'), '\u0001', { ':sealed': '1' }, [[':sealed', '1']]]) {
      const step = { name: 'charge', result: Buffer.from(JSON.stringify(value)) };
      expect(off.openStep(ID, step)).toEqual(step);
    }
  });
});

describe('a key', () => {
  it('may be a text, which is always the same key', () => {
    const text = 'correct horse battery staple 0123456789';
    const sealed = sealingWith(sealingKey(text)).sealAnswer(ID, ANSWER);
    expect(sealingWith(sealingKey(text)).openAnswer(ID, sealed)).toEqual(ANSWER);
    remedyOf(() => sealingWith(sealingKey(`${text}!`)).openAnswer(ID, sealed));
  });

  it('opens what was sealed with it long ago', () => {
    // Sealed by the first version: if this fails, records of running applications can't be opened any more.
    const bytes = Buffer.from(FROZEN, 'base64');
    const key = sealingKey('a text of at least thirty-two characters');
    const step = { name: 'charge', result: bytes };
    expect(sealingWith(key).openStep('00000000-0000-4000-8000-000000000000', step).result.toString()).toBe('{"charge":"ch_1"}');
  });
});

const FROZEN = 'AUlM1ffX9oLJTAE4O4eF5BE32TdWPbHKrzxQe9fbw6GTwSc3JHqbihT1YMezjaGYNBohTpzA';
