/**
 * One transaction on a connection of the application's: what is sent when, and what its answers mean.
 * Its own statements go to the bare connection; what handlers send passes the gate first.
 */
import type { QueryResult } from 'pg';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable, TransactionMisused } from '../contract/errors.js';
import type { Ownership, RecordedStep } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { CommitResult, RecordTransaction, TransactionClient } from '../contract/transaction.js';
import type { HeldRows } from './held-rows.js';
import type { Loan } from './loan.js';
import { inTime } from './patience.js';
import { endsConnection, isOfAbortedTransaction, isTransient } from './postgres-error.js';
import { writeHeaders } from './rows.js';
import { deadlineIn, type Deadline, type Statement } from './session.js';
import { COMMIT, KEEP_ALIVE, ROLL_BACK, ROLL_BACK_TO_START, probe, savepoint, type Statements } from './statements.js';
import type { Tables } from './table-name.js';
import type { TransactionGate } from './transaction-gate.js';

export interface TransactionParts {
  readonly loan: Loan;
  readonly gate: TransactionGate;
  readonly tables: Tables;
  readonly sql: Statements;
  readonly held: HeldRows;
  readonly clock: Clock;
  /** Longest wait for each of its own statements, COMMIT included. */
  readonly patienceMs: number;
  readonly onStatement: ((name: string) => void) | undefined;
  readonly onOver: (transaction: PgTransaction) => void;
}

export class PgTransaction implements RecordTransaction {
  readonly client: TransactionClient;
  /** Whose rows it holds. */
  readonly #owners = new Set<string>();
  /** The row that it has begun with. */
  #holds: Ownership | undefined;
  #savepoints = 0;
  #beating = false;
  #ending = false;
  #broken: Error | undefined;

  constructor(private readonly parts: TransactionParts) {
    const { loan, gate } = parts;
    this.client = {
      async query<Row>(text: string, values: readonly unknown[] = []) {
        gate.pass(text);
        const { rows, rowCount } = await gate.watch(loan.client.query(text, [...values]));
        return { rows: rows as Row[], rowCount };
      },
    };
    loan.client.on('error', this.#onBroken);
  }

  get manager(): unknown {
    return this.parts.loan.manager;
  }

  /** `false`: the row that it should hold is not this owner's any more. */
  async begin(begin: Statement, holds: Ownership | undefined, deadline: Deadline): Promise<boolean> {
    this.#holds = holds;
    if (holds !== undefined) await this.#keepFromRenewal(holds.owner, deadline);
    for (;;) {
      try {
        const results = (await this.#send(begin, undefined, deadline)) as unknown as readonly QueryResult[];
        return holds === undefined || results.some(({ command, rowCount }) => command === 'SELECT' && rowCount === 1);
      } catch (error) {
        if (!isTransient(error)) throw error;
        await this.#send(ROLL_BACK, undefined, deadline); // the row was written to in that very instant: it must be looked at again
      }
    }
  }

  /** Waits its turn behind the handler's statements however long those take: while one is running, Postgres is not idle. */
  async keepAlive(): Promise<void> {
    if (this.#beating || this.#ending || this.#broken !== undefined) return;
    const { loan, onStatement } = this.parts;
    this.#beating = true;
    onStatement?.(KEEP_ALIVE.name);
    await loan.client.query(KEEP_ALIVE.text).catch(() => undefined);
    this.#beating = false;
  }

  async probe(): Promise<void> {
    await this.#ask(probe(this.parts.tables, this.#holds));
  }

  /** What the handler wrote is gone, so the handler is over as well: what is still on its way comes too late. */
  async rollBackToStart(): Promise<void> {
    this.parts.gate.close();
    await this.#ask(ROLL_BACK_TO_START);
  }

  async savepoint<T>(work: () => Promise<T>): Promise<T> {
    const { loan } = this.parts;
    const { set, release, undo } = savepoint((this.#savepoints += 1));
    const { nesting } = loan;
    await this.#ask(set);
    try {
      const result = await work();
      await this.#ask(release);
      return result;
    } catch (error) {
      await this.#ask(undo).catch(() => undefined); // what went wrong first is what counts
      loan.nesting = nesting;
      throw error;
    }
  }

  async complete(ownership: Ownership, { status, headers, body }: RecordedResponse, retentionMs: number): Promise<boolean> {
    return this.#writeLast(ownership, this.parts.sql.complete, [status, writeHeaders(headers), body, retentionMs]);
  }

  async seal(ownership: Ownership, status: number | undefined, retentionMs: number): Promise<boolean> {
    return this.#writeLast(ownership, this.parts.sql.seal, [status, retentionMs]);
  }

  async release(ownership: Ownership, retentionMs: number): Promise<boolean> {
    return this.#writeLast(ownership, this.parts.sql.release, [retentionMs]);
  }

  async recordStep({ id, owner }: Ownership, { name, result }: RecordedStep): Promise<boolean> {
    return (await this.#ask(this.parts.sql.recordStep, [id, owner, name, result])).rowCount === 1;
  }

  async commit(): Promise<CommitResult> {
    this.parts.gate.close();
    if (this.#ending) return { kind: 'refused', transient: true, cause: new StoreUnavailable() };
    this.#ending = true;
    const result = await this.#commit();
    this.#giveBack();
    return result;
  }

  async rollBack(): Promise<void> {
    this.parts.gate.close();
    if (this.#ending) return;
    this.#ending = true;
    await this.#send(ROLL_BACK).catch((error: Error) => (this.#broken ??= error));
    this.#giveBack();
  }

  async #commit(): Promise<CommitResult> {
    const { gate } = this.parts;
    try {
      this.#assertNotEndedByHand();
      const { command } = await this.#send(COMMIT);
      if (command === 'COMMIT') return { kind: 'committed' };
      const cause = gate.failure ?? new Error('The transaction was aborted by an earlier error.');
      return { kind: 'refused', transient: isTransient(cause), cause };
    } catch (cause) {
      if (this.#broken !== undefined) return { kind: 'unknown', cause: this.#broken };
      return { kind: 'refused', transient: isTransient(cause), cause };
    }
  }

  /**
   * A row of another execution, one that runs within this one, is taken hold of before: from its last
   * write on, its lease can't be renewed from elsewhere.
   */
  async #writeLast(ownership: Ownership, statement: Statement, values: readonly unknown[]): Promise<boolean> {
    const { id, owner } = ownership;
    if (!this.#owners.has(owner)) {
      await this.#keepFromRenewal(owner, deadlineIn(this.parts.clock, this.parts.patienceMs));
      if ((await this.#ask(this.parts.sql.hold, [id, owner])).rowCount !== 1) return false;
    }
    return (await this.#ask(statement, [id, owner, ...values])).rowCount === 1;
  }

  /** The gate reads the beginning of a text only. Older drivers can't tell more. */
  #assertNotEndedByHand(): void {
    const { client } = this.parts.loan;
    if (client.getTransactionStatus?.() === 'I') throw new TransactionMisused(ENDED_BY_HAND);
  }

  /** Between its beginning and its end. Afterwards the connection may be somebody else's. */
  async #ask(statement: Statement, values?: readonly unknown[]): Promise<QueryResult> {
    if (this.#ending) throw new StoreUnavailable({ cause: new Error('The transaction is over.') });
    this.#assertNotEndedByHand();
    return this.#send(statement, values);
  }

  async #keepFromRenewal(owner: string, deadline: Deadline): Promise<void> {
    this.#owners.add(owner);
    await inTime(this.parts.held.add(owner), deadline, this.parts.clock).catch((cause: unknown) => {
      throw new StoreUnavailable({ cause });
    });
  }

  async #send(
    statement: Statement,
    values?: readonly unknown[],
    deadline = deadlineIn(this.parts.clock, this.parts.patienceMs),
  ): Promise<QueryResult> {
    const { loan, clock, gate, onStatement } = this.parts;
    if (this.#broken !== undefined) throw new StoreUnavailable({ cause: this.#broken });
    onStatement?.(statement.name);
    try {
      return await inTime(gate.watch(loan.client.query(statement.text, values && [...values])), deadline, clock);
    } catch (error) {
      throw this.#explained(error);
    }
  }

  /** In an aborted transaction every error but the first only says that it is aborted. */
  #explained(error: unknown): unknown {
    if (endsConnection(error)) {
      this.#broken ??= error as Error;
      return new StoreUnavailable({ cause: error });
    }
    return isOfAbortedTransaction(error) ? (this.parts.gate.failure ?? error) : error;
  }

  readonly #onBroken = (error: Error): void => {
    this.#broken ??= error;
  };

  #giveBack(): void {
    const { loan, held, onOver } = this.parts;
    loan.giveBack(this.#broken);
    loan.client.off('error', this.#onBroken);
    for (const owner of this.#owners) held.delete(owner);
    onOver(this);
  }
}

const ENDED_BY_HAND =
  'The transaction of this execution was ended by a statement of the handler, and what was to be committed together is torn apart.';
