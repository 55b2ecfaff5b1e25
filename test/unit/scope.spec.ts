import { describe, expect, it } from '@jest/globals';
import { ScopeRequired } from '../../lib/contract/errors.js';
import { checkScope, decideScope, scopeOfUser } from '../../lib/engine/scope.js';
import type { ScopeFacts } from '../../lib/engine/scope.js';

function remedyOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof ScopeRequired) return error.remedy;
    throw error;
  }
  throw new Error('was not refused');
}

describe('scopeOfUser', () => {
  class Account {
    get id(): string {
      return 'a1';
    }
  }

  it.each<[string, unknown, string | undefined]>([
    ['an id', { id: 'u1' }, 'id=u1'],
    ['a number, as its digits', { id: 42 }, 'id=42'],
    ['a number 0', { id: 0 }, 'id=0'],
    ['a bigint', { id: 42n }, 'id=42'],
    ['a subject', { sub: 'auth0|7' }, 'sub=auth0|7'],
    ['a userId', { userId: 'u1' }, 'userId=u1'],
    ['the id before all others', { userId: 'c', sub: 'b', id: 'a' }, 'id=a'],
    ['the subject before the userId', { userId: 'c', sub: 'b' }, 'sub=b'],
    ['what is left where the id is empty', { id: '', sub: 'b' }, 'sub=b'],
    ['what is left where the id is an object', { id: { value: 1 }, userId: 'c' }, 'userId=c'],
    ['an entity with a getter', new Account(), 'id=a1'],
    ['nothing in a user without them', { name: 'Ada' }, undefined],
    ['nothing in NaN', { id: Number.NaN }, undefined],
    ['nothing in a number that is not exact', { id: 2 ** 53 }, undefined],
    ['nothing in a boolean', { id: true }, undefined],
    ['nothing in a text', 'ada', undefined],
    ['nothing in no user', undefined, undefined],
  ])('finds %s', (_, user, scope) => {
    expect(scopeOfUser(user)).toBe(scope);
  });
});

describe('checkScope', () => {
  it('takes a text as it is', () => {
    expect(checkScope(' tenant 7 / Ä ')).toBe(' tenant 7 / Ä ');
    expect(checkScope('x'.repeat(512))).toHaveLength(512);
  });

  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /returned undefined.*scope: false/],
    ['null', null, /returned null/],
    ['an empty text', '', /returned an empty string/],
    ['a number', 42, /of type number/],
    ['false', false, /of type boolean/],
    ['a promise', Promise.resolve('a'), /of type object/],
    ['a NUL character', 'tenant\0', /NUL/],
    ['half a surrogate pair', 'tenant\ud800', /well-formed/],
    ['a whole token', 'x'.repeat(513), /513 characters.*512/],
  ])('refuses %s with a remedy that does not repeat it', (_, value, remedy) => {
    const told = remedyOf(() => checkScope(value));
    expect(told).toMatch(remedy);
    expect(told).not.toMatch(/tenant|xxx/);
  });
});

describe('decideScope', () => {
  it.each<[string, ScopeFacts, unknown]>([
    ['what the configured function returned', { rule: 'configured', result: 'tenant 7' }, { kind: 'caller', scope: 'tenant 7' }],
    ['one space on purpose', { rule: 'shared' }, { kind: 'shared', scope: '' }],
    ['the user', { rule: 'default', user: { id: 42 }, hasAuthorization: true }, { kind: 'caller', scope: 'id=42' }],
    [
      'the user of a session, without a header',
      { rule: 'default', user: { id: 42 }, hasAuthorization: false },
      { kind: 'caller', scope: 'id=42' },
    ],
    ['the anonymous space, told apart', { rule: 'default', user: undefined, hasAuthorization: false }, { kind: 'anonymous', scope: '' }],
    ['no user where a guard left null', { rule: 'default', user: null, hasAuthorization: false }, { kind: 'anonymous', scope: '' }],
    ['no user where a guard left false', { rule: 'default', user: false, hasAuthorization: false }, { kind: 'anonymous', scope: '' }],
  ])('decides by %s', (_, facts, scope) => {
    expect(decideScope(facts)).toEqual(scope);
  });

  it.each<[string, ScopeFacts, RegExp]>([
    ['a configured function yields nothing', { rule: 'configured', result: undefined }, /scope function returned undefined/],
    ['credentials came but no user', { rule: 'default', user: undefined, hasAuthorization: true }, /Authorization header.*guard.*scope:/],
    ['an optional guard refused the credentials', { rule: 'default', user: false, hasAuthorization: true }, /Authorization header/],
    [
      'the user has nothing to tell it by',
      { rule: 'default', user: { name: 'Ada' }, hasAuthorization: false },
      /no id, sub or userId.*scope:/,
    ],
    ['the user is a mere name', { rule: 'default', user: 'ada', hasAuthorization: false }, /no id, sub or userId/],
    ['the id can not be stored', { rule: 'default', user: { id: 'a\0b' }, hasAuthorization: false }, /NUL/],
  ])('refuses rather than merges callers where %s', (_, facts, remedy) => {
    expect(remedyOf(() => decideScope(facts))).toMatch(remedy);
  });
});
