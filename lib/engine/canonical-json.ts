/**
 * JSON in the one form that equal values share: RFC 8785. It is our own because the fingerprints of
 * stored records depend on it for as long as they live.
 *
 * Where the RFC has nothing for a value it does as `JSON.stringify` does, since a client must not be
 * able to make it fail: lone surrogates are escaped, NaN and infinities are null, what JSON can't
 * hold is skipped. A bigint is written as its digits.
 */
import { RequestUnreadable } from '../contract/errors.js';
import type { Frames } from './framing.js';

/** Deeper than any honest document, and far from the end of the stack. What contains itself ends here too. */
const MAX_DEPTH = 1000;

/** More names than this are few no longer. */
const FEW = 16;

const COMMA = 0x2c;
const COLON = 0x3a;
const [OPENING_BRACKET, CLOSING_BRACKET] = [0x5b, 0x5d];
const [OPENING_BRACE, CLOSING_BRACE] = [0x7b, 0x7d];

/** Writes nothing, and is `false`, for what has no JSON form at all, where `JSON.stringify` is `undefined`. */
export function writeCanonicalJson(value: unknown, to: Frames): boolean {
  return write(value, to, 0);
}

function write(value: unknown, to: Frames, depth: number): boolean {
  switch (typeof value) {
    case 'string':
      to.quoted(value);
      return true;
    case 'number':
      to.text(Number.isFinite(value) ? String(value) : 'null'); // String() writes numbers as the RFC asks: it borrowed the algorithm
      return true;
    case 'boolean':
    case 'bigint':
      to.text(String(value));
      return true;
    case 'object':
      if (value !== null) return writeObject(value, to, depth + 1);
      to.text('null');
      return true;
    default:
      return false;
  }
}

function writeObject(value: object, to: Frames, depth: number): boolean {
  if (depth > MAX_DEPTH) {
    throw new RequestUnreadable(
      `A value is nested more than ${MAX_DEPTH} levels deep, or contains itself. Give the fingerprint option a function that picks what counts.`,
    );
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') return write(value.toJSON(), to, depth);
  if (Array.isArray(value)) writeItems(value, to, depth);
  else writeMembers(value as Record<string, unknown>, to, depth);
  return true;
}

function writeItems(items: readonly unknown[], to: Frames, depth: number): void {
  to.character(OPENING_BRACKET);
  for (let i = 0; i < items.length; i++) {
    if (i > 0) to.character(COMMA);
    // Records were made with nothing where a list has a hole, which no parser leaves in one.
    if (!write(items[i], to, depth) && i in items) to.text('null');
  }
  to.character(CLOSING_BRACKET);
}

function writeMembers(members: Record<string, unknown>, to: Frames, depth: number): void {
  let isEmpty = true;
  to.character(OPENING_BRACE);
  const names = sorted(Object.keys(members));
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!;
    const { length } = to;
    if (!isEmpty) to.character(COMMA);
    to.quoted(name);
    to.character(COLON);
    if (write(members[name], to, depth)) isEmpty = false;
    else to.backTo(length);
  }
  if (isEmpty) refuseHidden(members);
  to.character(CLOSING_BRACE);
}

/**
 * By UTF-16 code units, the order the RFC wants: `<` compares them, and so does sort() without a
 * comparator. That is slow to start, and most objects have few names, or have them in order.
 */
function sorted(names: string[]): string[] {
  if (names.length > FEW) return names.sort();
  for (let i = 1; i < names.length; i++) {
    const name = names[i]!;
    let place = i;
    for (; place > 0 && names[place - 1]! > name; place--) names[place] = names[place - 1]!;
    names[place] = name;
  }
  return names;
}

/** A Map, Set or Promise would be `{}` whatever is in it, and so make different requests the same. */
function refuseHidden(value: object): void {
  const kind = Object.prototype.toString.call(value);
  if (kind === '[object Object]') return;
  throw new RequestUnreadable(
    `A value is of the kind ${kind}, whose content JSON does not show. Have the fingerprint function return plain objects and arrays.`,
  );
}
