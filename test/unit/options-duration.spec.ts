import { describe, expect, it } from '@jest/globals';
import { parseDuration } from '../../lib/nest/duration.js';

describe('parseDuration', () => {
  it.each([
    [0, 0],
    [1500, 1500],
    ['0ms', 0],
    ['500ms', 500],
    ['45s', 45_000],
    ['1m', 60_000],
    ['48h', 172_800_000],
    ['7d', 604_800_000],
  ])('reads %j as %d ms', (written, ms) => {
    expect(parseDuration(written)).toBe(ms);
  });

  it.each([
    [-1],
    [1.5],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [2 ** 53],
    [''],
    ['45'],
    ['s'],
    ['1.5s'],
    ['-1s'],
    ['1 s'],
    [' 1s'],
    ['1S'],
    ['1s\n'],
    ['1h30m'],
    ['1w'],
    ['999999999999999d'],
    [null],
    [undefined],
    [true],
    [1000n],
    [['1s']],
  ])('takes %p for no duration rather than guess', (written) => {
    expect(parseDuration(written)).toBeUndefined();
  });
});
