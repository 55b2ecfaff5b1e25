/** A transaction's connection as a handler without an ORM is handed it: what it sends passes the gate, and the gate hears what fails. */
import type { PoolClient } from 'pg';
import type { TransactionClient, TransactionQuery } from '../contract/transaction.js';
import type { TransactionGate } from './transaction-gate.js';

const NO_VALUES: readonly unknown[] = [];

/** A plain object: a handler may take it apart. */
export function handlersClient(client: PoolClient, gate: TransactionGate): TransactionClient {
  return {
    async query<Row>(query: string | TransactionQuery, given: readonly unknown[] = NO_VALUES) {
      const { name, text, values = given } = typeof query === 'string' ? { text: query } : query;
      gate.pass(text);
      try {
        const { rows, rowCount } = await client.query({ name, text, values: [...values] });
        return { rows: rows as Row[], rowCount };
      } catch (error) {
        gate.failed(error);
        throw error;
      }
    },
  };
}
