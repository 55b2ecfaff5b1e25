/**
 * What counts as a key, and what is made of one: the record's identity and the keys handed
 * downstream. Where a key comes from is known elsewhere; no message here ever repeats one.
 */
import { hash } from 'node:crypto';
import { parseItem } from 'structured-headers';
import { KeyInvalid } from '../contract/errors.js';
import type { Identity } from '../contract/record.js';
import { framed } from './framing.js';
import { uuidOfHex, uuidText } from './uuid.js';

/** Which keys are accepted, beside the length. A RegExp is used as it was written: without `^` and `$` it may match a part. */
export type KeyFormat = 'any' | 'uuid' | RegExp | ((key: string) => boolean);

/** Room for every key scheme we know of, and what payment providers accept themselves. */
export const MAX_KEY_CHARACTERS = 255;

/**
 * Control characters would break log lines and can't be in a Postgres text (NUL); half a surrogate
 * pair has no UTF-8 form, so that two different keys would be stored as one.
 */
const UNSTORABLE = /[\p{Cc}\p{Cs}]/u;
const PRINTABLE_ASCII = /^[ -~]*$/;
/** A structured-field string without escapes, alone in its field: nearly every quoted key, and no parser is needed for it. */
const PLAINLY_QUOTED = /^"[ !#-[\]-~]+"$/;
/** RFC 9562, section 4, any version. Letters keep their case: a retry repeats its key, it does not respell it. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * The key in a request's header fields: every raw value of every accepted name, unjoined. A bare
 * `abc` and the structured-field string `"abc"` (RFC 9651) are the same key.
 */
export function parseKeyFields(fields: readonly string[]): string | undefined {
  const first = fields[0];
  if (first === undefined) return undefined;
  if (fields.length > 1) throw new KeyInvalid('came in several header fields; send exactly one');

  // White space around a field's value is not part of it (RFC 9110, section 5.5), and Node has mostly taken it off.
  const value = first.trim() === first ? first : first.replace(/^[ \t]+|[ \t]+$/g, '');
  if (value.startsWith('"')) return parseQuoted(value);
  if (value === '') throw new KeyInvalid('is empty');
  if (value.includes(',')) throw new KeyInvalid('has a comma, so it may be a list; send exactly one, in quotes if the comma belongs to it');
  return value;
}

function parseQuoted(value: string): string {
  if (PLAINLY_QUOTED.test(value)) return value.slice(1, -1);
  let item: ReturnType<typeof parseItem>;
  try {
    item = parseItem(value);
  } catch {
    // The parser's own message is left out: its offsets say something about the key.
    throw new KeyInvalid('begins with a quote but is not one well-formed quoted string (RFC 9651), such as "8e03978e"');
  }
  const [key, parameters] = item;
  if (typeof key !== 'string' || parameters.size > 0)
    throw new KeyInvalid('has parameters after the closing quote; send the quoted string alone');
  if (key === '') throw new KeyInvalid('is empty');
  return key;
}

/** The key in a route parameter, a body or a function's result. Numbers count as their digits. */
export function keyText(value: unknown): string | undefined {
  switch (typeof value) {
    case 'undefined':
      return undefined;
    case 'string':
      if (value === '') throw new KeyInvalid('is empty');
      return value;
    case 'bigint':
      return value.toString();
    case 'number':
      // Beyond 2^53 JSON numbers that differ were read as the same number: two keys would be one.
      if (!Number.isSafeInteger(value)) throw new KeyInvalid('is a number that is not an exact integer; send it as a string');
      return value.toString();
    default:
      if (value === null) return undefined;
      throw new KeyInvalid(`is ${Array.isArray(value) ? 'a list' : `of type ${typeof value}`}; only a string or an integer can be a key`);
  }
}

/** What stands at a dotted path, such as `event.id`, in a parsed body. Inherited properties are none of the client's. */
export function valueAt(body: unknown, path: string): unknown {
  let value = body;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

/** Refuses a key that the route does not accept, wherever it came from. */
export function checkKey(key: string, format: KeyFormat): void {
  if (key === '') throw new KeyInvalid('is empty');
  const characters = key.length <= MAX_KEY_CHARACTERS ? key.length : countCharacters(key); // no text has more characters than code units
  if (characters > MAX_KEY_CHARACTERS) throw new KeyInvalid(`has ${characters} characters; 1 to ${MAX_KEY_CHARACTERS} are accepted`);
  const plain = PRINTABLE_ASCII.test(key);
  if (!plain && UNSTORABLE.test(key))
    throw new KeyInvalid('has control characters or is not well-formed Unicode; printable characters are accepted');
  const fault = faultIn(key, plain, format);
  if (fault !== undefined) throw new KeyInvalid(fault);
}

function faultIn(key: string, plain: boolean, format: KeyFormat): string | undefined {
  if (format === 'any') return plain ? undefined : 'has characters outside printable ASCII, which alone is accepted here';
  if (format === 'uuid')
    return UUID.test(key) ? undefined : 'is not a UUID; only UUIDs such as f81d4fae-7dec-11d0-a765-00a0c91e6bf6 are accepted here';
  // Unlike test(), search() keeps no position between two calls for a RegExp with the flags g or y.
  const accepted = typeof format === 'function' ? format(key) : key.search(format) >= 0;
  return accepted ? undefined : 'does not have the form that is accepted here';
}

/** The record's identity. Other versions of this library must find its rows: the bytes digested here are a stored format. */
export function identify(scope: string, operation: string, key: string): Identity {
  return { id: uuidOfHex(hash('sha256', framed([scope, operation, key]), 'hex')), scope, operation, key };
}

/** Tells a derived key's bytes from every other digest of ours. A stored format too: foreign systems remember the keys. */
const DERIVED_KEY_DOMAIN = 'nestjs-idempotency-pg derived key';

/**
 * The key under which a foreign system is called for `name`: the same in every attempt, and another
 * one for every other caller, operation, key and name. It looks like a UUID (version 8, RFC 9562),
 * the one form that nearly every provider takes: some allow no more than 36 or 45 characters.
 */
export function derivedKey(identity: Omit<Identity, 'id'>, name: string): string {
  if (name === '' || countCharacters(name) > MAX_KEY_CHARACTERS || UNSTORABLE.test(name)) {
    throw new TypeError(`The name of a derived key has 1 to ${MAX_KEY_CHARACTERS} characters and no control characters: keyFor('charge').`);
  }
  const digest = hash('sha256', framed([DERIVED_KEY_DOMAIN, identity.scope, identity.operation, identity.key, name]), 'buffer');
  digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x80, 6);
  digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
  return uuidText(digest);
}

/** Characters as Postgres and people count them, not UTF-16 code units. */
function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
