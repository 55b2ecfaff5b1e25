/** Opens the application's transactions, and knows those that are open. */
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError, StoreUnavailable } from '../contract/errors.js';
import type { Ownership } from '../contract/record.js';
import type { TransactionSettings } from '../contract/transaction.js';
import type { HeldRows } from './held-rows.js';
import { poolLender, type Lender, type Loan } from './loan.js';
import { inTime } from './patience.js';
import { PgTransaction } from './pg-transaction.js';
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
  readonly #open = new Set<PgTransaction>();
  #closed = false;

  constructor(private readonly parts: TransactionsParts) {
    const { application } = parts;
    this.#lender = 'pool' in application ? poolLender(application.pool) : typeormLender(application.dataSource);
  }

  async open(ownership: Ownership, settings: TransactionSettings): Promise<PgTransaction | undefined> {
    const { connectMs, guard } = settings;
    const beginning = this.#beginning(ownership, settings);
    const held = settings.holdsRecord ? ownership : undefined;
    const deadline = deadlineIn(this.parts.clock, connectMs);
    const gate = new TransactionGate(guard);
    const loan = await this.#borrow(gate, deadline);
    const transaction = new PgTransaction({ ...this.parts, loan, gate, patienceMs: connectMs, onOver: (over) => this.#open.delete(over) });
    this.#open.add(transaction);
    try {
      if (await transaction.begin(beginning, held, deadline)) return transaction;
      await transaction.rollBack();
      return undefined;
    } catch (cause) {
      await transaction.rollBack();
      throw isIdempotencyError(cause) ? cause : new StoreUnavailable({ cause });
    }
  }

  #beginning({ id, owner }: Ownership, { isolation, idleMs, holdsRecord }: TransactionSettings): readonly TripStatement[] {
    const beginning = [
      { statement: isolation === undefined ? BEGIN : BEGIN_ISOLATED[isolation] },
      { statement: IDLE_LIMIT, values: [Math.ceil(idleMs)] },
    ];
    return holdsRecord ? [...beginning, { statement: this.parts.sql.hold, values: [id, owner] }] : beginning;
  }

  /** Ends them all. The pool is the application's, and stays. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open].map((transaction) => transaction.rollBack()));
  }

  async #borrow(gate: TransactionGate, deadline: Deadline): Promise<Loan> {
    const arriving = this.#lender.lend(gate);
    try {
      const loan = await inTime(arriving, deadline, this.parts.clock);
      if (!this.#closed) return loan;
      throw new Error('The store was closed.');
    } catch (cause) {
      arriving.then(
        (late) => late.giveBack(), // somebody else may be waiting for it
        () => undefined,
      );
      throw new StoreUnavailable({ cause });
    }
  }
}
