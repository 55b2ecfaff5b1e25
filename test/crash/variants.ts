/** The ways in which the shop of crash-shop.ts takes payments, and what must be there of one in the end. */
export interface Variant {
  readonly path: string;
  /** The answer that is kept. */
  readonly status: number;
  readonly atomic: boolean;
  /** Names of the calls to the provider. */
  readonly steps: readonly string[];
  /** Rows that are left when it is done. */
  readonly payments: number;
  readonly mails: number;
  /** How often its rows may be there: only what commits with its record is certain to be there once. */
  readonly effects: 'one' | 'one for an attempt';
}

const CALLS = ['charge', 'receipt'];

export const VARIANTS: readonly Variant[] = [
  { path: 'plain', status: 201, atomic: false, steps: [], payments: 1, mails: 0, effects: 'one for an attempt' },
  { path: 'plain-steps', status: 201, atomic: false, steps: CALLS, payments: 1, mails: 0, effects: 'one' },
  { path: 'atomic', status: 201, atomic: true, steps: [], payments: 1, mails: 0, effects: 'one' },
  { path: 'atomic-prompt', status: 201, atomic: true, steps: [], payments: 1, mails: 0, effects: 'one' },
  { path: 'atomic-steps', status: 201, atomic: true, steps: CALLS, payments: 1, mails: 0, effects: 'one' },
  { path: 'atomic-refused', status: 402, atomic: true, steps: CALLS, payments: 0, mails: 0, effects: 'one' },
  { path: 'atomic-run', status: 201, atomic: true, steps: [], payments: 1, mails: 1, effects: 'one' },
];
