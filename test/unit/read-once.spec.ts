/** When keys were read that came only once lately. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { ReadOnce } from '../../lib/engine/read-once.js';
import { uuidOfHex } from '../../lib/engine/uuid.js';

const idOf = (name: string): string => uuidOfHex(createHash('sha256').update(name).digest('hex'));

/** The digits that tell the place are the first eight of the last part, of which the lowest twelve bits count. */
const placed = (mark: string, place: string): string => `${mark}-0000-0000-0000-${place}0000`;

describe('a read', () => {
  it('is the first of its key, and then told with its time', () => {
    const reads = new ReadOnce();
    expect([reads.note(idOf('one'), 5), reads.note(idOf('another'), 6), reads.note(idOf('one'), 7)]).toEqual([undefined, undefined, 5]);
    expect(reads.note(idOf('one'), 8)).toBe(7);
  });

  it('is told of nearly every key that comes again before thousands of others', () => {
    const reads = new ReadOnce();
    const names = Array.from({ length: 200 }, (_, i) => `key ${i}`);
    names.forEach((name) => reads.note(idOf(name), 1));
    expect(names.filter((name) => reads.note(idOf(name), 2) === 1).length).toBeGreaterThan(180);
  });

  it('is told apart from one of another key in the same place, which takes it over', () => {
    const reads = new ReadOnce();
    const [one, other] = [placed('0000000a', '00000abc'), placed('0000000b', '00000abc')];
    expect([reads.note(one, 1), reads.note(other, 2), reads.note(one, 3), reads.note(one, 4)]).toEqual([
      undefined,
      undefined,
      undefined,
      3,
    ]);
  });

  it.each([
    ['00000001', '00000010'],
    ['80000000', '00000000'],
    ['ffffffff', '7fffffff'],
    ['0000000a', '0000000b'],
  ])('is told apart by each digit of its mark (%s, %s)', (mark, another) => {
    const reads = new ReadOnce();
    reads.note(placed(mark, '00000000'), 1);
    expect(reads.note(placed(another, '00000000'), 2)).toBeUndefined();
    expect(reads.note(placed(another, '00000000'), 3)).toBe(2);
  });

  it('leaves the other places as they are', () => {
    const reads = new ReadOnce();
    const places = ['00000000', '00000001', '00000fff', '00000f0a'];
    places.forEach((place, i) => reads.note(placed('12345678', place), i));
    expect(places.map((place) => reads.note(placed('12345678', place), 9))).toEqual([0, 1, 2, 3]);
  });

  it('is forgotten with all others', () => {
    const reads = new ReadOnce();
    reads.note(idOf('one'), 1);
    reads.clear();
    expect(reads.note(idOf('one'), 2)).toBeUndefined();
  });

  it('of the key whose digits are all zero is the first, too', () => {
    expect(new ReadOnce().note(placed('00000000', '00000000'), 1)).toBeUndefined();
  });
});
