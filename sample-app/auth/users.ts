export interface User {
  readonly id: string;
  readonly name: string;
}

/** A real shop checks signed tokens; this one has three customers. */
export const DEMO_USERS: ReadonlyMap<string, User> = new Map([
  ['alice-token', { id: 'alice', name: 'Alice' }],
  ['bob-token', { id: 'bob', name: 'Bob' }],
  ['carol-token', { id: 'carol', name: 'Carol' }],
]);
