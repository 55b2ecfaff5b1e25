/**
 * JSON in the one form that equal values share: RFC 8785. It is our own because the fingerprints of
 * stored records depend on it for as long as they live.
 *
 * Where the RFC has nothing for a value it does as `JSON.stringify` does, since a client must not be
 * able to make it fail: lone surrogates are escaped, NaN and infinities are null, what JSON can't
 * hold is skipped. A bigint is written as its digits.
 */
import { RequestUnreadable } from '../contract/errors.js';

/** Deeper than any honest document, and far from the end of the stack. What contains itself ends here too. */
const MAX_DEPTH = 1000;

/** `undefined` for what has no JSON form at all, as with `JSON.stringify`. */
export function canonicalJson(value: unknown): string | undefined {
  return write(value, 0);
}

function write(value: unknown, depth: number): string | undefined {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'number':
      return Number.isFinite(value) ? String(value) : 'null'; // String() writes numbers as the RFC asks: it borrowed the algorithm
    case 'boolean':
    case 'bigint':
      return String(value);
    case 'object':
      return value === null ? 'null' : writeObject(value, depth + 1);
    default:
      return undefined;
  }
}

function writeObject(value: object, depth: number): string | undefined {
  if (depth > MAX_DEPTH) {
    throw new RequestUnreadable(
      `A value is nested more than ${MAX_DEPTH} levels deep, or contains itself. Give the fingerprint option a function that picks what counts.`,
    );
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') return write(value.toJSON(), depth);
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth) ?? 'null').join(',')}]`;

  const members: string[] = [];
  // Without a comparator sort() goes by UTF-16 code units, which is the order the RFC wants.
  for (const name of Object.keys(value).sort()) {
    const text = write((value as Record<string, unknown>)[name], depth);
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`);
  }
  if (members.length === 0) refuseHidden(value);
  return `{${members.join(',')}}`;
}

/** A Map, Set or Promise would be `{}` whatever is in it, and so make different requests the same. */
function refuseHidden(value: object): void {
  const kind = Object.prototype.toString.call(value);
  if (kind === '[object Object]') return;
  throw new RequestUnreadable(
    `A value is of the kind ${kind}, whose content JSON does not show. Have the fingerprint function return plain objects and arrays.`,
  );
}
