/**
 * What every `IdempotencyStore` promises, as cases for any test runner. A case throws an
 * `AssertionError` where the store breaks its word.
 *
 * Transactions are not among them: what they promise is about a database, and the store in memory
 * has none.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { IdempotencyStore } from '../contract/store.js';
import { claims, takeOvers } from './contract/claims.js';
import { operators } from './contract/operators.js';
import { settling, steps } from './contract/settling.js';
import { Workbench } from './contract/workbench.js';

export interface StoreContractOptions {
  /**
   * Lets time pass for the store: moves its clock, or the instants in its table. Default: the cases
   * wait some tens of milliseconds where something has to end.
   */
  readonly advanceTime?: (ms: number) => void | Promise<void>;
  /** How many do the same at once where a case is about a race. Default: 10. */
  readonly concurrent?: number;
}

export interface StoreContractCase {
  /** What is promised, such as “lets exactly one of many simultaneous claims through”. */
  readonly name: string;
  /** Makes a store, tries it, and closes it. */
  run(): Promise<void>;
}

/**
 * ```ts
 * for (const { name, run } of idempotencyStoreContract(() => new MyStore())) it(name, run);
 * ```
 *
 * @param makeStore called once for each case: a store without a record in it
 */
export function idempotencyStoreContract(
  makeStore: () => IdempotencyStore | Promise<IdempotencyStore>,
  { advanceTime = (ms) => pause(ms), concurrent = 10 }: StoreContractOptions = {},
): readonly StoreContractCase[] {
  return [...claims, ...takeOvers, ...settling, ...steps, ...operators].map(({ name, run }) => ({
    name,
    async run() {
      const store = await makeStore();
      try {
        await run(new Workbench(store, concurrent, advanceTime));
      } finally {
        await store.close();
      }
    },
  }));
}
