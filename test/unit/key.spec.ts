import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parseItem } from 'structured-headers';
import { isIdempotencyError } from '../../lib/contract/errors.js';
import { checkKey, derivedKey, identify, keyText, parseKeyFields, valueAt } from '../../lib/engine/key.js';
import type { KeyFormat } from '../../lib/engine/key.js';

/** The refusal's sentence, or `undefined` if there was none. */
function refusal(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (isIdempotencyError(error) && error.code === 'IDEMPOTENCY_KEY_INVALID') return error.message;
    throw error;
  }
}

describe('parseKeyFields', () => {
  it('finds no key where there is no field', () => {
    expect(parseKeyFields([])).toBeUndefined();
  });

  it.each([
    ['a bare key', 'abc', 'abc'],
    ['a quoted key, which is the same as the bare one', '"abc"', 'abc'],
    ['a quoted key with white space around it', '  "abc"\t', 'abc'],
    ['a bare key with white space around it', ' \tabc ', 'abc'],
    ['escaped quotes and backslashes', String.raw`"a\"b\\c"`, String.raw`a"b\c`],
    ['a comma inside quotes', '"a,b"', 'a,b'],
    ['white space inside quotes, kept', '" a "', ' a '],
    ['a bare key with a quote further in', 'a"b', 'a"b'],
    ['a bare key that is another kind of structured field', ':YWJj:', ':YWJj:'],
    ['a bare key with a semicolon', 'a;b=1', 'a;b=1'],
    ['a UUID', '8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
  ])('takes %s', (_, field, key) => {
    expect(parseKeyFields([field])).toBe(key);
  });

  it.each([
    ['two fields', ['abc', 'def'], /several header fields/],
    ['two fields that are equal', ['abc', 'abc'], /several header fields/],
    ['an empty field beside one with a key', ['', 'abc'], /several header fields/],
    ['an empty field', [''], /is empty/],
    ['a field of white space', [' \t '], /is empty/],
    ['an empty quoted string', ['""'], /is empty/],
    ['a bare list', ['abc, def'], /comma/],
    ['a quoted list', ['"abc", "def"'], /quote/],
    ['a missing closing quote', ['"abc'], /quote/],
    ['text after the closing quote', ['"abc"def'], /quote/],
    ['an unknown escape', [String.raw`"a\bc"`], /quote/],
    ['a backslash at the end', ['"abc\\'], /quote/],
    ['other than ASCII in quotes', ['"ä"'], /quote/],
    ['a control character in quotes', ['"a\tb"'], /quote/],
    ['a parameter', ['"abc";a=1'], /parameters/],
    ['a parameter without a value', ['"abc";a'], /parameters/],
    ['a semicolon without a parameter', ['"abc";'], /quote/],
  ])('refuses %s', (_, fields, reason) => {
    const message = refusal(() => parseKeyFields(fields));
    expect(message).toMatch(reason);
    expect(message).not.toContain('abc');
  });

  it('reads a quoted key as RFC 9651 has it, whatever is between the quotes', () => {
    const piece = fc.oneof(fc.string(), fc.constantFrom('"', String.raw`\"`, '\\', ';a', ' ', '\t', 'ä', '\u007f'));
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const field = `"${pieces.join('')}"`;
        let key: string | undefined;
        try {
          const [bare, parameters] = parseItem(field);
          if (typeof bare === 'string' && bare !== '' && parameters.size === 0) key = bare;
        } catch {
          // it is none
        }
        if (key === undefined) expect(refusal(() => parseKeyFields([field]))).toBeDefined();
        else expect(parseKeyFields([field])).toBe(key);
      }),
    );
  });
});

describe('keyText', () => {
  it.each([
    ['a text as it is', ' "abc", ', ' "abc", '],
    ['an integer as its digits', 42, '42'],
    ['zero', 0, '0'],
    ['negative zero', -0, '0'],
    ['a negative integer', -7, '-7'],
    ['the largest exact integer', Number.MAX_SAFE_INTEGER, '9007199254740991'],
    ['a bigint of any size', 12345678901234567890n, '12345678901234567890'],
    ['nothing', undefined, undefined],
    ['null as nothing', null, undefined],
  ])('takes %s', (_, value, key) => {
    expect(keyText(value)).toBe(key);
  });

  it.each([
    ['an empty text', '', /empty/],
    ['a fraction', 1.5, /exact integer/],
    ['an integer that JSON could not read exactly', 2 ** 53, /exact integer/],
    ['a number without a digits form', 1e21, /exact integer/],
    ['NaN', Number.NaN, /exact integer/],
    ['infinity', Number.POSITIVE_INFINITY, /exact integer/],
    ['a boolean', true, /boolean/],
    ['a list, as of a repeated parameter', ['a'], /list/],
    ['an object', { id: 'a' }, /object/],
    ['a promise of a key', Promise.resolve('a'), /object/],
    ['a function', () => 'a', /function/],
    ['a symbol', Symbol('a'), /symbol/],
  ])('refuses %s', (_, value, reason) => {
    expect(refusal(() => keyText(value))).toMatch(reason);
  });
});

describe('valueAt', () => {
  const body: unknown = JSON.parse('{"id":"top","event":{"id":"deep","items":[{"id":7}]},"__proto__":{"id":"own"},"a.b":"dotted"}');

  it.each([
    ['id', 'top'],
    ['event.id', 'deep'],
    ['event.items.0.id', 7],
    ['__proto__.id', 'own'],
  ])('finds %s', (path, value) => {
    expect(valueAt(body, path)).toBe(value);
  });

  it.each([
    ['missing'],
    ['event.missing.id'],
    ['id.length'],
    ['toString'],
    ['event.constructor'],
    ['event.__proto__.id'],
    ['event.items.map'],
  ])('finds nothing at %s', (path) => {
    expect(valueAt(body, path)).toBeUndefined();
  });

  it.each([[undefined], [null], ['text'], [7]])('finds nothing in %p', (value) => {
    expect(valueAt(value, 'id')).toBeUndefined();
  });
});

describe('checkKey', () => {
  const uuid = 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6';

  it.each<[string, string, KeyFormat]>([
    ['any printable ASCII', ' !"#~}abc', 'any'],
    ['a key of one character', 'a', 'any'],
    ['a key of 255 characters', 'a'.repeat(255), 'any'],
    ['255 characters that are two code units each', '😀'.repeat(255), /./u],
    ['a UUID of version 1', uuid, 'uuid'],
    ['a UUID of version 7', '017f22e2-79b0-7cc3-98c4-dc0c0c07398f', 'uuid'],
    ['the UUID that is all zeros', '00000000-0000-0000-0000-000000000000', 'uuid'],
    ['a UUID in upper case', uuid.toUpperCase(), 'uuid'],
    ['what a RegExp matches', 'ord_17', /^ord_\d+$/],
    ['what a RegExp without anchors matches in part', 'an ord_17 here', /ord_\d+/],
    ['what a predicate accepts', 'Größe', (key) => key.startsWith('Gr')],
  ])('accepts %s', (_, key, format) => {
    expect(refusal(() => checkKey(key, format))).toBeUndefined();
  });

  it.each<[string, string, KeyFormat, RegExp]>([
    ['an empty key', '', 'any', /empty/],
    ['a key of 256 characters', 'x'.repeat(256), 'any', /has 256 characters; 1 to 255/],
    ['a long key even if a predicate would take it', 'x'.repeat(256), () => true, /1 to 255/],
    ['other than ASCII', 'schlüssel', 'any', /printable ASCII/],
    ['a NUL character', 'secret\0', 'any', /control characters/],
    ['a NUL character even if a predicate would take it', 'secret\0', () => true, /control characters/],
    ['a line break even if a RegExp would take it', 'secret\nline', /secret/, /control characters/],
    ['a C1 control character', 'secret\u0085', /secret/, /control characters/],
    ['half a surrogate pair', 'secret\ud83d', /secret/, /well-formed/],
    ['what is no UUID', 'secret', 'uuid', /is not a UUID/],
    ['a UUID without hyphens', '8e03978e40d543ddbc936894a57f9324', 'uuid', /is not a UUID/],
    ['a UUID in braces', '{8e03978e-40d5-43dd-bc93-6894a57f9324}', 'uuid', /is not a UUID/],
    ['what a RegExp does not match', 'secret', /^\d+$/, /form that is accepted/],
    ['what a predicate does not accept', 'secret', () => false, /form that is accepted/],
  ])('refuses %s and never repeats it', (_, key, format, reason) => {
    const message = refusal(() => checkKey(key, format));
    expect(message).toMatch(reason);
    expect(message).not.toContain(key.slice(0, 6) || 'secret');
  });

  it.each([[/^ord_\d+$/g], [/ord_\d+/y], [/ord_\d+/gy]])(
    'gives the same answer for %s however often it is asked, and leaves it as it was',
    (format) => {
      for (let time = 0; time < 3; time++) expect(refusal(() => checkKey('ord_17', format))).toBeUndefined();
      expect(format.lastIndex).toBe(0);
    },
  );
});

describe('identify', () => {
  // Rows of other versions must be found: these values may never change. They were computed by another program.
  it.each([
    ['', '', 'abc', 'd53c3ec3-6099-6d97-f8fd-f3d605eddf0a'],
    ['id=42', 'POST /orders', 'ключ', 'd9dd831d-c3ef-d284-dc11-dd8f1b339ed8'],
    ['тенант', '', 'k'.repeat(255), '1bec538c-f81a-b521-2928-d13afc6e0c57'],
    ['id=42', 'POST /orders v1', '€'.repeat(200), '1812b835-203d-fde9-5975-1b6a0e5d85bd'],
  ])('finds the rows of other versions: %j %j %j', (scope, operation, key, id) => {
    expect(identify(scope, operation, key)).toEqual({ id, scope, operation, key });
  });

  it('does not mistake a moved border between scope, operation and key for the same identity', () => {
    const ids = [
      ['a', 'b', 'c'],
      ['ab', '', 'c'],
      ['', 'ab', 'c'],
      ['a', '', 'bc'],
      ['', 'a', 'bc'],
      ['', '', 'abc'],
      ['c', 'b', 'a'],
    ].map(([scope = '', operation = '', key = '']) => identify(scope, operation, key).id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('keeps keys apart that differ in case or in Unicode normalisation only', () => {
    const ids = ['é', 'e\u0301', 'É'].map((key) => identify('', '', key).id);
    expect(new Set(ids).size).toBe(3);
  });
});

describe('derivedKey', () => {
  const identity = { scope: 'id=42', operation: '', key: 'abc' };

  // Foreign systems remember these keys: the value may never change. It was computed by another program.
  it('is the same in every attempt and every version', () => {
    expect(derivedKey(identity, 'charge')).toBe('1b802d80-7355-8b6e-be61-c135d2dbd56a');
  });

  it('is another one for every other caller, operation, key and name', () => {
    const keys = [
      derivedKey(identity, 'charge'),
      derivedKey(identity, 'charge2'),
      derivedKey({ ...identity, scope: 'id=43' }, 'charge'),
      derivedKey({ ...identity, operation: 'pay' }, 'charge'),
      derivedKey({ ...identity, key: 'abcd' }, 'charge'),
      derivedKey({ ...identity, key: 'abcc' }, 'harge'),
      identify('id=42', '', 'abc').id,
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('has the form of a UUID, which nearly every system takes', () => {
    expect(derivedKey(identity, 'e-mail an den Käufer')).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it.each([
    ['empty', ''],
    ['too long', 'x'.repeat(256)],
    ['with a control character', 'a\nb'],
    ['not well-formed', '\udc00'],
  ])('refuses a name that is %s', (_, name) => {
    expect(() => derivedKey(identity, name)).toThrow(/1 to 255 characters.*keyFor\('charge'\)/);
  });
});
