/** Much of one kind is done a few at a time, and what else has come is served in between. */
import { describe, expect, it } from '@jest/globals';
import { Slices } from '../../lib/engine/slices.js';
import { atRest } from '../support/manual-clock.js';

function noting(most: number): { readonly done: number[]; readonly slices: Slices<number> } {
  const done: number[] = [];
  return { done, slices: new Slices(most, (item) => done.push(item)) };
}

describe('slices', () => {
  it('are done in order, the first one at once and one in each turn after it', async () => {
    const { done, slices } = noting(2);
    slices.add([1, 2, 3, 4, 5]);
    expect(done).toEqual([1, 2]);
    await atRest();
    expect(done).toEqual([1, 2, 3, 4]);
    await atRest();
    expect(done).toEqual([1, 2, 3, 4, 5]);
  });

  it('take what comes meanwhile behind what is there, and go on afterwards', async () => {
    const { done, slices } = noting(2);
    slices.add([1, 2, 3]);
    slices.add([4, 5]);
    expect(done).toEqual([1, 2]);
    await atRest();
    await atRest();
    expect(done).toEqual([1, 2, 3, 4, 5]);
    slices.add([6]);
    expect(done.at(-1)).toBe(6);
  });

  it('can be finished at once', async () => {
    const { done, slices } = noting(1);
    slices.add([1, 2, 3]);
    slices.finish();
    expect(done).toEqual([1, 2, 3]);
    await atRest();
    expect(done).toHaveLength(3);
  });
});
