/** A transaction's connection as a handler without an ORM is handed it: what it sends passes the gate, and the gate hears what fails. */
import type { PoolClient, QueryConfig, QueryResult, QueryResultRow } from 'pg';
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
        const { rows, rowCount } = await answerTo<Row & QueryResultRow>(client, gate, { name, text, values: [...values] });
        return { rows, rowCount };
      } catch (error) {
        gate.failed(error);
        if (error instanceof Error) Error.captureStackTrace(error); // leads to whoever has asked, instead of into the driver
        throw error;
      }
    },
  };
}

/** By callback: the driver's own promise keeps requests that are over from being cleared away as long as they are young. */
function answerTo<Row extends QueryResultRow>(client: PoolClient, gate: TransactionGate, query: QueryConfig): Promise<QueryResult<Row>> {
  return new Promise((resolve, reject) => {
    gate.send(client, query, (error: Error | null | undefined, result: QueryResult<Row>) => (error ? reject(error) : resolve(result)));
  });
}
