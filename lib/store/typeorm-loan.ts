/**
 * A connection of a DataSource, lent with the `EntityManager` that goes with it. All that is known of
 * TypeORM's inside is here; it is the same in 0.3.20 and in 1.x.
 *
 * A query runner sends everything, whether it comes from a repository, a query builder, a stream or a
 * nested transaction, through the connection it keeps. In its place we put one that passes the gate,
 * so that nothing gets by, not even what was on its way when the gate was closed. The runner's own
 * methods ask the gate too, to refuse in our words and at once.
 */
import type { PoolClient } from 'pg';
import type { DataSource, QueryRunner } from 'typeorm';
import { TransactionMisused } from '../contract/errors.js';
import type { Lender, Loan } from './loan.js';
import type { Sent } from './passenger.js';
import type { TransactionGate } from './transaction-gate.js';

/** What TypeORM does not declare. */
interface RunnerInside {
  databaseConnection: PoolClient;
  transactionDepth: number;
  isTransactionActive: boolean;
  isReleased: boolean;
  releasePostgresConnection(broken?: Error): Promise<void>;
}

export function typeormLender(dataSource: DataSource): Lender {
  return {
    async lend(gate) {
      const runner = dataSource.createQueryRunner();
      const client = (await runner.connect()) as PoolClient;
      return loanOf(runner, client, gate);
    },
  };
}

function loanOf(runner: QueryRunner, client: PoolClient, gate: TransactionGate): Loan {
  const inside = runner as unknown as RunnerInside;
  const giveBack = inside.releasePostgresConnection.bind(runner);
  // With a depth of 1, a nested `manager.transaction()` becomes a savepoint.
  Object.assign(inside, { databaseConnection: gated(client, gate), isTransactionActive: true, transactionDepth: 1 });
  Object.assign(runner, gatedMethods(runner, gate));
  return {
    client,
    manager: runner.manager,
    get nesting() {
      return inside.transactionDepth;
    },
    set nesting(depth) {
      inside.transactionDepth = depth;
    },
    giveBack(broken) {
      void giveBack(broken);
      inside.isReleased = false; // else TypeORM would refuse in its own words, which tell nobody what to look for
    },
  };
}

function gated(client: PoolClient, gate: TransactionGate): PoolClient {
  return new Proxy(client, {
    get(target, property) {
      if (property === 'query') {
        return (...sent: Sent) => {
          gate.pass(sent[0]);
          return gate.watch(gate.send(target, ...sent));
        };
      }
      if (property === 'release' || property === 'end') return notYours;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function gatedMethods(runner: QueryRunner, gate: TransactionGate): Partial<QueryRunner> {
  const bare = {
    query: runner.query.bind(runner) as (...sent: unknown[]) => Promise<never>,
    stream: runner.stream.bind(runner),
    startTransaction: runner.startTransaction.bind(runner),
    commitTransaction: runner.commitTransaction.bind(runner),
    rollbackTransaction: runner.rollbackTransaction.bind(runner),
  };
  const end = (inner: () => Promise<void>) => async (): Promise<void> => {
    gate.pass();
    if ((runner as unknown as RunnerInside).transactionDepth <= 1) gate.refuseToEnd();
    return inner();
  };
  return {
    query: async (text: string, ...rest: unknown[]) => {
      gate.pass(text);
      return bare.query(text, ...rest);
    },
    stream: async (...sent) => {
      gate.pass(sent[0]);
      return bare.stream(...sent);
    },
    startTransaction: async (isolation) => {
      gate.pass();
      return bare.startTransaction(isolation);
    },
    commitTransaction: end(bare.commitTransaction),
    rollbackTransaction: end(bare.rollbackTransaction),
    release: async () => notYours(),
  };
}

function notYours(): never {
  throw new TransactionMisused('The connection of this execution’s transaction is given back when that ends, and not before.');
}
