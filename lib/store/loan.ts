/**
 * A connection of the application's, lent for one transaction. Whoever lends knows the pool; whoever
 * borrows knows transactions.
 */
import type { Pool, PoolClient } from 'pg';
import type { TransactionGate } from './transaction-gate.js';

export interface Loan {
  /** Bare: for the transaction's own statements. */
  readonly client: PoolClient;
  /** TypeORM's `EntityManager` on it, whose statements pass the gate; `undefined` for a plain pool. */
  readonly manager: unknown;
  /** How many transactions TypeORM thinks it is in, one in the other. */
  nesting: number;
  /** Once. A broken connection is not used again. */
  giveBack(broken?: Error): void;
}

export interface Lender {
  lend(gate: TransactionGate): Promise<Loan>;
}

export function poolLender(pool: Pool): Lender {
  return {
    async lend() {
      const client = await pool.connect();
      return { client, manager: undefined, nesting: 0, giveBack: (broken) => client.release(broken) };
    },
  };
}
