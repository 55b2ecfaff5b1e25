import { describe, expect, it } from '@jest/globals';
import { canMatchStrongly, entityTagOf, matchesWeakly, readPrecondition, versionsOf } from '../../lib/recipes/preconditions.js';
import type { EntityTag } from '../../lib/recipes/preconditions.js';

const strong = (...opaques: string[]): EntityTag[] => opaques.map((opaque) => ({ opaque, weak: false }));
const weak = (opaque: string): EntityTag => ({ opaque, weak: true });

describe('readPrecondition', () => {
  it.each<[string, string[], readonly EntityTag[]]>([
    ['one tag', ['"3"'], strong('3')],
    ['a list', ['"3", "4"'], strong('3', '4')],
    ['a list without spaces', ['"3","4"'], strong('3', '4')],
    ['tabs around commas', ['"3"\t,\t"4"'], strong('3', '4')],
    ['several lines as one list', ['"3"', '"4", "5"'], strong('3', '4', '5')],
    ['empty elements', [', "3",, ,"4" ,'], strong('3', '4')],
    ['nothing but empty elements', [' , ,'], []],
    ['an empty field', [''], []],
    ['a weak tag', ['W/"3"'], [weak('3')]],
    ['weak and strong', ['W/"3", "3"'], [weak('3'), ...strong('3')]],
    ['an empty tag', ['""'], strong('')],
    ['a comma within a tag', ['"a,b", "c"'], strong('a,b', 'c')],
    ['a backslash, which escapes nothing', ['"a\\", "b"'], strong('a\\', 'b')],
    ['all that a tag may be made of', ['"!#~*W/"'], strong('!#~*W/')],
    ['bytes beyond ASCII (obs-text)', ['"\xe9\xff"'], strong('\xe9\xff')],
    ['space around it', ['  "3"\t'], strong('3')],
  ])('reads %s', (_, lines, tags) => {
    expect(readPrecondition(lines)).toEqual({ kind: 'tags', tags });
  });

  it.each([['*'], [' * '], ['\t*']])('reads %j as any', (line) => {
    expect(readPrecondition([line])).toEqual({ kind: 'any' });
  });

  it('tells a field that is not there', () => {
    expect(readPrecondition([])).toEqual({ kind: 'absent' });
  });

  it.each([
    ['a tag without quotes', ['3']],
    ['a quote that is never closed', ['"3']],
    ['a single quote', ["'3'"]],
    ['a space within a tag', ['"a b"']],
    ['a control character within a tag', ['"a\x7fb"']],
    ['a character beyond Latin-1', ['"\u0142"']],
    ['two tags without a comma', ['"3" "4"']],
    ['two tags side by side', ['"3""4"']],
    ['w/ in lower case', ['w/"3"']],
    ['W/ without a tag', ['W/']],
    ['a space behind W/', ['W/ "3"']],
    ['* in a list', ['*, "3"']],
    ['* on one line and a tag on another', ['*', '"3"']],
    ['* twice', ['*', '*']],
    ['something behind a good tag', ['"3"x']],
    ['a no-break space around a tag', ['\xa0"3"']],
  ])('refuses %s', (_, lines) => {
    expect(readPrecondition(lines)).toEqual({ kind: 'malformed' });
  });

  it('reads what is as long as a header can be, and is wrong at its end', () => {
    expect(readPrecondition([`${' '.repeat(200_000)}x`])).toEqual({ kind: 'malformed' });
    expect(readPrecondition([`${',\t'.repeat(100_000)}x`])).toEqual({ kind: 'malformed' });
    expect(readPrecondition([`"${'a'.repeat(200_000)}`])).toEqual({ kind: 'malformed' });
  });
});

describe('entityTagOf', () => {
  it.each([
    [3, '"3"'],
    [0, '"0"'],
    [-1, '"-1"'],
    [9_007_199_254_740_993n, '"9007199254740993"'],
    ['a1b2-c3', '"a1b2-c3"'],
    ['W/', '"W/"'],
    ['2026-11-24T12:00:00.000Z', '"2026-11-24T12:00:00.000Z"'],
  ])('makes a strong tag of %p', (version, tag) => {
    expect(entityTagOf(version)).toBe(tag);
  });

  it.each([
    [''],
    ['a"b'],
    ['a b'],
    ['a\nb'],
    ['caf\xe9'],
    [NaN],
    [Infinity],
    [undefined],
    [null],
    [new Date()],
    [{ version: 3 }],
    [['3']],
    [true],
  ])('refuses %p, and says what to give', (version) => {
    expect(() => entityTagOf(version as string)).toThrow(/visible ASCII.*Give a counter/);
  });
});

describe('canMatchStrongly', () => {
  it('is false of weak tags alone and of an empty list, since If-Match compares strongly', () => {
    expect(canMatchStrongly(readPrecondition(['W/"3", W/"4"']))).toBe(false);
    expect(canMatchStrongly(readPrecondition([' ,']))).toBe(false);
    expect(canMatchStrongly(readPrecondition(['W/"3", "4"']))).toBe(true);
    expect(canMatchStrongly(readPrecondition(['*']))).toBe(true);
  });
});

describe('matchesWeakly', () => {
  it.each([
    ['"3"', '"3"', true],
    ['"2", "3"', '"3"', true],
    ['W/"3"', '"3"', true],
    ['"3"', 'W/"3"', true],
    ['W/"3"', 'W/"3"', true],
    ['*', '"3"', true],
    ['"4"', '"3"', false],
    ['"33"', '"3"', false],
    ['', '"3"', false],
    ['3', '"3"', false],
    ['"3"', '3', false],
  ])('If-None-Match: %s with the ETag %s: %p', (field, tag, expected) => {
    expect(matchesWeakly(readPrecondition([field]), tag)).toBe(expected);
  });

  it('is false without the field', () => {
    expect(matchesWeakly(readPrecondition([]), '"3"')).toBe(false);
  });
});

describe('versionsOf', () => {
  it.each<[readonly EntityTag[], number | number[]]>([
    [strong('3'), 3],
    [strong('0'), 0],
    [strong('-2'), -2],
    [strong('3', '4'), [3, 4]],
    [[weak('3')], []],
    [[weak('3'), ...strong('4')], 4],
    [strong('abc', '4'), 4],
    [strong('abc'), []],
    [[], []],
    [strong('', ' ', '03', '3.0', '1e3', '0x10', '+3', '-0', '9007199254740993', 'NaN', 'Infinity'), []],
  ])('of %j are %j', (tags, versions) => {
    expect(versionsOf(tags)).toEqual(versions);
  });

  it('gives back each number that a tag was made of', () => {
    for (const version of [0, 1, 42, -7, Number.MAX_SAFE_INTEGER]) {
      const read = readPrecondition([entityTagOf(version)]);
      expect(read.kind === 'tags' && versionsOf(read.tags)).toBe(version);
    }
  });
});
