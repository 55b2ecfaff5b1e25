export interface User {
  readonly id: string;
  readonly name: string;
  readonly email: string;
}

/** A real shop checks signed tokens; this one has three customers. */
export const DEMO_USERS: ReadonlyMap<string, User> = new Map([
  ['alice-token', { id: 'alice', name: 'Alice', email: 'alice@example.com' }],
  ['bob-token', { id: 'bob', name: 'Bob', email: 'bob@example.com' }],
  ['carol-token', { id: 'carol', name: 'Carol', email: 'carol@example.com' }],
]);
