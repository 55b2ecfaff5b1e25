/** Opens the application's transactions, and knows those that are open. */
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';
import type { Ownership } from '../contract/record.js';
import type { TransactionSettings } from '../contract/transaction.js';
import { Crowd } from './crowd.js';
import type { HeldRows } from './held-rows.js';
import { poolLender, type Lender, type Loan } from './loan.js';
import { GaveUp } from './patience.js';
import { PgTransaction, unavailable, type TransactionParts } from './pg-transaction.js';
import { deadlineIn, type Deadline } from './session.js';
import { BEGIN, BEGIN_ISOLATED, IDLE_LIMIT, type Statements } from './statements.js';
import { TransactionGate } from './transaction-gate.js';
import type { TripStatement } from './trip.js';
import { typeormLender } from './typeorm-loan.js';

/** Whose connections the transactions of handlers are made on: a TypeORM DataSource's, or a plain pool's. */
export type Application = { readonly dataSource: DataSource } | { readonly pool: Pool };

export interface TransactionsParts {
  readonly application: Application;
  readonly sql: Statements;
  readonly held: HeldRows;
  readonly clock: Clock;
  /** Whether the application's connections may keep our statements. */
  readonly preparedStatements: boolean;
  readonly onStatement: ((name: string) => void) | undefined;
}

export class Transactions {
  readonly #lender: Lender;
  readonly #open = new Crowd<PgTransaction>();
  readonly #common: TransactionParts;
  #closed = false;

  constructor(private readonly parts: TransactionsParts) {
    const { application, sql, held, clock, preparedStatements, onStatement } = parts;
    this.#common = { sql, held, clock, preparedStatements, onStatement, onOver: (over) => this.#open.remove(over) };
    this.#lender = 'pool' in application ? poolLender(application.pool) : typeormLender(application.dataSource);
  }

  async open(ownership: Ownership, settings: TransactionSettings): Promise<PgTransaction | undefined> {
    const { connectMs, guard, holdsRecord, promptness } = settings;
    const deadline = deadlineIn(this.parts.clock, connectMs);
    const gate = new TransactionGate(guard);
    const loan = await this.#borrow(gate, deadline);
    const transaction = new PgTransaction(this.#common, loan, gate, connectMs);
    this.#open.add(transaction);
    try {
      const beginning = this.#beginning(ownership, settings);
      if (await transaction.begin(beginning, holdsRecord ? ownership : undefined, deadline, promptness)) return transaction;
      await transaction.rollBack();
      return undefined;
    } catch (cause) {
      await transaction.rollBack();
      throw unavailable(cause);
    }
  }

  #beginning({ id, owner }: Ownership, { isolation, idleMs, holdsRecord }: TransactionSettings): readonly TripStatement[] {
    const begin = { statement: isolation === undefined ? BEGIN : BEGIN_ISOLATED[isolation] };
    const limit = String(Math.ceil(idleMs));
    return [
      begin,
      holdsRecord ? { statement: this.parts.sql.holdOrFail, values: [id, owner, limit] } : { statement: IDLE_LIMIT, values: [limit] },
    ];
  }

  /** Ends them all. The pool is the application's, and stays. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#open.all().map((transaction) => transaction.rollBack()));
  }

  #borrow(gate: TransactionGate, deadline: Deadline): Promise<Loan> {
    return new Promise((resolve, reject) => {
      let isWanted = true;
      const giveUp = (cause: unknown): void => {
        isWanted = false;
        cancel();
        reject(new StoreUnavailable({ cause }));
      };
      const cancel = this.parts.clock.after(deadline.leftMs(), () => giveUp(new GaveUp('No connection was free in time.')));
      this.#lender.lend(gate).then((loan) => {
        if (isWanted && !this.#closed) {
          cancel();
          resolve(loan);
          return;
        }
        loan.giveBack(); // somebody else may be waiting for it
        giveUp(new Error('The store was closed.'));
      }, giveUp);
    });
  }
}
