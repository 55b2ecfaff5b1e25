import { describe, expect, it } from '@jest/globals';
import { RequestUnreadable } from '../../lib/contract/errors.js';
import { writeCanonicalJson } from '../../lib/engine/canonical-json.js';
import { Frames } from '../../lib/engine/framing.js';

/** `undefined` where nothing is written. */
function canonicalJson(value: unknown): string | undefined {
  const to = new Frames();
  const { length } = to;
  const written = writeCanonicalJson(value, to);
  if (!written) expect(to.length).toBe(length);
  return written ? to.bytes.toString() : undefined;
}

/** The double with these bits. */
function double(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE();
}

describe('canonicalJson', () => {
  // RFC 8785, appendix B.
  it.each([
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['ffefffffffffffff', '-1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555554', '333333333.33333325'],
    ['41b3de4355555555', '333333333.3333333'],
    ['41b3de4355555556', '333333333.3333334'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ])('writes the number %s as the RFC does: %s', (bits, text) => {
    expect(canonicalJson(double(bits))).toBe(text);
  });

  // RFC 8785, section 3.2.2.
  it('writes literals, numbers and strings as the RFC does', () => {
    const value: unknown = JSON.parse(
      String.raw`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
    );
    expect(canonicalJson(value)).toBe(
      String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
    );
  });

  // RFC 8785, section 3.2.3.
  it('sorts members by UTF-16 code units', () => {
    const value = {
      '\u20ac': 'Euro',
      '\r': 'Return',
      '\ufb33': 'Dalet',
      1: 'One',
      '\ud83d\ude00': 'Grin',
      '\u0080': 'Control',
      '\u00f6': 'O',
    };
    expect(Object.values(JSON.parse(canonicalJson(value) ?? '') as object)).toEqual([
      'One',
      'Return',
      'Control',
      'O',
      'Euro',
      'Grin',
      'Dalet',
    ]);
    expect(canonicalJson(value)).toBe('{"\\r":"Return","1":"One","\u0080":"Control","ö":"O","€":"Euro","😀":"Grin","\ufb33":"Dalet"}');
  });

  it('makes one text of the same document spelt in two ways', () => {
    const one: unknown = JSON.parse('{"b":{"y":[1.0,"\\u0041"],"x":null},"a":1e2}');
    const two: unknown = JSON.parse('{ "a" : 100, "b" : { "x" : null, "y" : [ 1, "A" ] } }');
    expect(canonicalJson(one)).toBe('{"a":100,"b":{"x":null,"y":[1,"A"]}}');
    expect(canonicalJson(two)).toBe(canonicalJson(one));
  });

  it('keeps the order of lists, in which it means something', () => {
    expect(canonicalJson([2, 1])).toBe('[2,1]');
  });

  it('sees a member called __proto__', () => {
    expect(canonicalJson(JSON.parse('{"__proto__":{"admin":true}}'))).toBe('{"__proto__":{"admin":true}}');
  });

  it.each<[string, unknown, string | undefined]>([
    ['lone surrogates', '\ud800x', '"\\ud800x"'],
    ['what JSON has no number for', [Number.NaN, Number.POSITIVE_INFINITY], '[null,null]'],
    ['undefined members and functions', { a: undefined, b: () => 1, c: Symbol('c'), d: 1 }, '{"d":1}'],
    ['undefined items', [undefined, () => 1], '[null,null]'],
    [
      'dates and all else with toJSON',
      { at: new Date(0), bytes: Buffer.from('A') },
      '{"at":"1970-01-01T00:00:00.000Z","bytes":{"data":[65],"type":"Buffer"}}',
    ],
    ['nothing', undefined, undefined],
    ['objects without a prototype', Object.assign(Object.create(null) as object, { a: 1 }), '{"a":1}'],
    ['empty objects and lists', [{}, []], '[{},[]]'],
    ['members whose toJSON gives nothing', { a: 1, b: { toJSON: () => undefined }, c: { toJSON: () => 'c' } }, '{"a":1,"c":"c"}'],
  ])('does as JSON.stringify does with %s', (_, value, text) => {
    expect(canonicalJson(value)).toBe(text);
    expect(JSON.parse(canonicalJson({ value }) ?? '')).toEqual(JSON.parse(JSON.stringify({ value })));
  });

  it('writes a bigint as its digits, whatever the application has taught BigInt', () => {
    expect(canonicalJson({ amount: 12345678901234567890n })).toBe('{"amount":12345678901234567890}');
  });

  // Records of other versions must go on matching: nothing was written there.
  it('leaves the holes of a list empty', () => {
    const list: unknown[] = Array.from({ length: 4 }, () => undefined);
    list[1] = 1;
    Reflect.deleteProperty(list, '0');
    Reflect.deleteProperty(list, '3');
    expect(canonicalJson(list)).toBe('[,1,null,]');
  });

  it.each([
    ['few names', 'dbca'],
    ['names in order', 'abcd'],
    ['many names', 'zyxwvutsrqponmlkjihgfedcba'],
  ])('sorts %s', (_, letters) => {
    const names = letters.split('');
    const text = canonicalJson(Object.fromEntries(names.map((name) => [name, 1]))) ?? '';
    expect(Object.keys(JSON.parse(text) as object)).toEqual(names.sort());
  });

  it.each([
    ['short', 'a'],
    ['as long as what is written character by character', 'a'.repeat(64)],
    ['longer', 'a'.repeat(65)],
    ['very long', 'a'.repeat(100_000)],
  ])('escapes what JSON escapes in a text that is %s', (_, text) => {
    for (const special of ['', '"', '\\', '\u0000', '\u001f', '\u007f', 'ä', '€', '\ud83d\ude00', '\ud800']) {
      for (const value of [special + text, text + special, special + text.slice(1)]) {
        expect(canonicalJson({ [value]: value })).toBe(JSON.stringify({ [value]: value }));
      }
    }
  });

  it('takes a document of 1000 levels', () => {
    const text = '['.repeat(1000) + ']'.repeat(1000);
    expect(canonicalJson(JSON.parse(text))).toBe(text);
  });

  const circular: Record<string, unknown> = { a: 1 };
  circular['self'] = { again: [circular, circular] };
  it.each<[string, unknown, RegExp]>([
    ['what is nested more deeply than that', JSON.parse('['.repeat(1001) + ']'.repeat(1001)), /1000 levels deep/],
    ['what no stack could hold', JSON.parse('{"a":'.repeat(200_000) + '1' + '}'.repeat(200_000)), /1000 levels deep/],
    ['what contains itself', circular, /contains itself.*fingerprint/],
    ['what has itself as its JSON', { toJSON: (): unknown => ({ toJSON: circular['toJSON'], inner: circular }) }, /contains itself/],
    ['a Map, whose content would not count', { lines: new Map([['a', 1]]) }, /object Map.*plain objects/],
    ['a Set', new Set([1]), /object Set/],
    ['a promise that nobody awaited', [Promise.resolve(1)], /object Promise/],
  ])('refuses %s, with a remedy', (_, value, remedy) => {
    let refused: unknown;
    try {
      canonicalJson(value);
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(RequestUnreadable);
    expect((refused as RequestUnreadable).remedy).toMatch(remedy);
  });
});
