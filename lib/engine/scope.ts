/**
 * Whose key it is. Two callers must never share a space by accident, so whatever can't be told is
 * refused; only a request that shows no sign of a caller at all goes into the shared space.
 */
import { ScopeRequired } from '../contract/errors.js';

/** What the door has seen of the caller. A configured function's result is handed over awaited. */
export type ScopeFacts =
  | { readonly rule: 'configured'; readonly result: unknown }
  | { readonly rule: 'shared' }
  | { readonly rule: 'default'; readonly user: unknown; readonly hasAuthorization: boolean };

/** `anonymous` is the shared space that nobody asked for: worth a warning, once per handler. */
export type Scope =
  | { readonly kind: 'caller'; readonly scope: string }
  | { readonly kind: 'shared'; readonly scope: '' }
  | { readonly kind: 'anonymous'; readonly scope: '' };

/**
 * An OpenID `sub` has up to 255 characters and a tenant may stand beside it. Twice that still fits
 * an index entry of Postgres (2704 bytes) with four bytes for each character.
 */
const MAX_SCOPE_CHARACTERS = 512;

/** In this order: what databases call it, what tokens call it, what is left. */
const USER_PROPERTIES = ['id', 'sub', 'userId'] as const;

export function decideScope(facts: ScopeFacts): Scope {
  switch (facts.rule) {
    case 'configured':
      return { kind: 'caller', scope: checkScope(facts.result) };
    case 'shared':
      return { kind: 'shared', scope: '' };
    case 'default':
      return isNobody(facts.user) ? decideWithoutUser(facts.hasAuthorization) : { kind: 'caller', scope: decideByUser(facts.user) };
  }
}

function decideByUser(user: unknown): string {
  const scope = scopeOfUser(user);
  if (scope === undefined) {
    throw new ScopeRequired(
      'request.user has no id, sub or userId that is a non-empty string or an exact number. Set the option scope: (request) => … to what identifies a caller.',
    );
  }
  return checkScope(scope);
}

function decideWithoutUser(hasAuthorization: boolean): Scope {
  if (!hasAuthorization) return { kind: 'anonymous', scope: '' };
  // A digest of the token would do until the client refreshes it; then its retry would be a second charge.
  throw new ScopeRequired(
    'The request has an Authorization header, but request.user is not set when the interceptor runs. Use a guard that sets it, or set the option ' +
      'scope: (request) => …, or scope: false if all callers may share one space of keys.',
  );
}

/** Passport's optional guards leave `false` where others leave nothing. */
function isNobody(user: unknown): boolean {
  return user === undefined || user === null || user === false;
}

/** `id=42`, `sub=…` or `userId=…`. The property's name belongs to it: user 42 and subject 42 may be two people. */
export function scopeOfUser(user: unknown): string | undefined {
  if (typeof user !== 'object' || user === null) return undefined;
  for (const property of USER_PROPERTIES) {
    const value = (user as Record<string, unknown>)[property];
    if (isIdentifying(value)) return `${property}=${value}`;
  }
  return undefined;
}

/** Numbers beyond 2^53 are not exact: two users could have the same one. */
function isIdentifying(value: unknown): value is string | number | bigint {
  if (typeof value === 'number') return Number.isFinite(value) && Math.abs(value) <= Number.MAX_SAFE_INTEGER;
  return typeof value === 'bigint' || (typeof value === 'string' && value !== '');
}

/** What a `scope` function returned. Nothing is mended here: a trimmed or shortened scope could be another caller's. */
export function checkScope(text: unknown): string {
  if (typeof text !== 'string' || text === '') {
    throw new ScopeRequired(
      `The scope function returned ${text === '' ? 'an empty string' : kindOf(text)}. It must return a non-empty string for every caller; ` +
        `scope: false gives all callers one space of keys on purpose.`,
    );
  }
  // Half a surrogate pair has no UTF-8 form: Postgres would be given the same text for two callers.
  if (text.includes('\0') || /\p{Cs}/u.test(text)) {
    throw new ScopeRequired(
      'The scope has a NUL character or is not well-formed Unicode, which Postgres cannot store. Encode it, for instance as hex.',
    );
  }
  if (text.length > MAX_SCOPE_CHARACTERS) {
    throw new ScopeRequired(
      `The scope has ${text.length} characters and at most ${MAX_SCOPE_CHARACTERS} are accepted. Use the caller's id, or a digest.`,
    );
  }
  return text;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return value === undefined ? 'undefined' : `a value of type ${typeof value}`;
}
