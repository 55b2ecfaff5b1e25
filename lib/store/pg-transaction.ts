/**
 * One transaction on a connection of the application's: what is sent when, and what its answers mean.
 * Its own statements go to the bare connection; what handlers send passes the gate first.
 */
import type { PoolClient, QueryResult } from 'pg';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable, TransactionMisused } from '../contract/errors.js';
import type { Ownership, RecordedStep } from '../contract/record.js';
import type {
  CommitResult,
  KeepingWrite,
  LastWrite,
  RecordTransaction,
  TransactionClient,
  TransactionQuery,
} from '../contract/transaction.js';
import type { HeldRows } from './held-rows.js';
import type { Loan } from './loan.js';
import { inTime } from './patience.js';
import { DIVISION_BY_ZERO, codeOf, endsConnection, isOfAbortedTransaction, isTransient } from './postgres-error.js';
import { writeHeaders } from './rows.js';
import { deadlineIn, type Deadline, type Statement } from './session.js';
import { CHECK_CONSTRAINTS, COMMIT, KEEP_ALIVE, ROLL_BACK, savepoint, type Statements } from './statements.js';
import type { TransactionGate } from './transaction-gate.js';
import { Trip, isForgotten } from './trip.js';
import type { TripAnswer, TripStatement, TripValue } from './trip.js';

export interface TransactionParts {
  readonly loan: Loan;
  readonly gate: TransactionGate;
  readonly sql: Statements;
  readonly held: HeldRows;
  readonly clock: Clock;
  readonly preparedStatements: boolean;
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
      async query<Row>(query: string | TransactionQuery, given?: readonly unknown[]) {
        const { name, text, values = given ?? [] } = typeof query === 'string' ? { text: query } : query;
        gate.pass(text);
        const { rows, rowCount } = await gate.watch(loan.client.query({ name, text, values: [...values] }));
        return { rows: rows as Row[], rowCount };
      },
    };
    loan.client.on('error', this.#onBroken);
  }

  get manager(): unknown {
    return this.parts.loan.manager;
  }

  /** `false`: the row that it should hold is not this owner's any more. */
  async begin(beginning: readonly TripStatement[], holds: Ownership | undefined, deadline: Deadline): Promise<boolean> {
    this.#holds = holds;
    if (holds !== undefined) await this.#keepFromRenewal(holds.owner, deadline);
    for (let forgotten = false; ;) {
      try {
        const answers = await this.#sendTogether(this.#trip(beginning), deadline);
        return holds === undefined || answers.at(-1)!.count === 1;
      } catch (error) {
        if (!isTransient(error) && (forgotten || !isForgotten(error))) throw error;
        forgotten ||= isForgotten(error); // the application has made the connection forget what it had prepared
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
    this.#assertOpen();
    const constraints = { statement: CHECK_CONSTRAINTS };
    const held = this.#holds;
    await this.#sendTogether(
      this.#trip(held === undefined ? [constraints] : [constraints, { statement: this.parts.sql.meetDoom, values: [held.id] }]),
    );
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

  /**
   * Another execution's, one that runs within this one. Its row is taken hold of before: from its last
   * write on, its lease can't be renewed from elsewhere.
   */
  async write(last: LastWrite): Promise<boolean> {
    const { id, owner } = last.ownership;
    this.#assertOpen();
    await this.#keepFromRenewal(owner, deadlineIn(this.parts.clock, this.parts.patienceMs));
    const statements = [{ statement: this.parts.sql.hold, values: [id, owner] }, this.#written(last)];
    return (await this.#sendTogether(this.#trip(statements))).at(-1)!.count === 1;
  }

  async recordStep({ id, owner }: Ownership, { name, result }: RecordedStep): Promise<boolean> {
    return (await this.#ask(this.parts.sql.recordStep, [id, owner, name, result])).rowCount === 1;
  }

  /** A COMMIT behind a last write that has failed is passed over, and the transaction still there. */
  commit(last?: KeepingWrite): Promise<CommitResult> {
    const commit = { statement: COMMIT };
    return this.#end(last === undefined ? [commit] : [this.#writtenOrFailed(last), commit], ({ command }) => {
      if (command === 'COMMIT') return { kind: 'committed' };
      return refused(this.parts.gate.failure ?? new Error('The transaction was aborted by an earlier error.'));
    });
  }

  /**
   * What the handler wrote is gone before the record is written to, which commits by itself then. A savepoint before
   * the handler would keep the row held in between. But then every request pays for it, most of which undo nothing:
   * its rows would be a subtransaction's, with a transaction id and WAL of its own, and to complete a row that the
   * transaction around it has locked makes a multixact each time.
   */
  undo(last: LastWrite): Promise<CommitResult> {
    return this.#end([{ statement: ROLL_BACK }, this.#written(last)], ({ count }) => ({ kind: count === 1 ? 'committed' : 'superseded' }));
  }

  async rollBack(): Promise<void> {
    this.parts.gate.close();
    if (this.#ending) return;
    this.#ending = true;
    await this.#rollBack();
    this.#giveBack();
  }

  async #end(statements: readonly TripStatement[], judge: (last: TripAnswer) => CommitResult): Promise<CommitResult> {
    this.parts.gate.close();
    try {
      this.#assertOpen();
    } catch (cause) {
      await this.rollBack();
      return refused(cause);
    }
    this.#ending = true;
    const trip = this.#trip(statements);
    const result = await this.#sendTogether(trip).then(
      (answers) => judge(answers.at(-1)!),
      (cause: unknown) => this.#judgeFailure(cause, trip.failure, statements.length - 1),
    );
    this.#giveBack();
    return result;
  }

  async #judgeFailure(cause: unknown, failure: Trip['failure'], last: number): Promise<CommitResult> {
    if (this.#broken !== undefined) return { kind: 'unknown', cause: this.#broken };
    if (failure !== undefined && failure.at < last) {
      await this.#rollBack();
      if (codeOf(failure.error) === DIVISION_BY_ZERO) return { kind: 'superseded' };
    }
    return refused(cause);
  }

  #trip(statements: readonly TripStatement[]): Trip {
    return new Trip(statements, this.parts.preparedStatements);
  }

  async #rollBack(): Promise<void> {
    await this.#send(ROLL_BACK).catch((error: Error) => (this.#broken ??= error));
  }

  #written(last: LastWrite): TripStatement {
    const { complete, seal, release } = this.parts.sql;
    return { statement: { complete, seal, release }[last.kind], values: valuesOf(last) };
  }

  #writtenOrFailed(last: KeepingWrite): TripStatement {
    const { completeOrFail: complete, sealOrFail: seal } = this.parts.sql;
    return { statement: { complete, seal }[last.kind], values: valuesOf(last) };
  }

  /** Between its beginning and its end. Afterwards the connection may be somebody else's. */
  #assertOpen(): void {
    if (this.#ending) throw new StoreUnavailable({ cause: new Error('The transaction is over.') });
    if (this.#broken !== undefined) throw new StoreUnavailable({ cause: this.#broken });
    // The gate reads the beginning of a text only. Older drivers can't tell more.
    if (this.parts.loan.client.getTransactionStatus?.() === 'I') throw new TransactionMisused(ENDED_BY_HAND);
  }

  async #ask(statement: Statement, values?: readonly unknown[]): Promise<QueryResult> {
    this.#assertOpen();
    return this.#send(statement, values);
  }

  async #keepFromRenewal(owner: string, deadline: Deadline): Promise<void> {
    const { held, clock } = this.parts;
    this.#owners.add(owner);
    const renewals = held.add(owner);
    if (renewals === undefined) return;
    await inTime(renewals, deadline, clock).catch((cause: unknown) => {
      throw new StoreUnavailable({ cause });
    });
  }

  async #send(statement: Statement, values?: readonly unknown[], deadline?: Deadline): Promise<QueryResult> {
    const { name, text } = statement;
    return this.#heard([name], (client) => client.query(text, values && [...values]), deadline);
  }

  async #sendTogether(trip: Trip, deadline?: Deadline): Promise<readonly TripAnswer[]> {
    return this.#heard(trip.names, (client) => trip.on(client), deadline);
  }

  async #heard<T>(
    names: readonly string[],
    send: (client: PoolClient) => Promise<T>,
    deadline = deadlineIn(this.parts.clock, this.parts.patienceMs),
  ): Promise<T> {
    const { loan, clock, gate, onStatement } = this.parts;
    if (this.#broken !== undefined) throw new StoreUnavailable({ cause: this.#broken });
    if (onStatement !== undefined) names.forEach((name) => onStatement(name));
    try {
      return await inTime(gate.watch(send(loan.client)), deadline, clock);
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

function refused(cause: unknown): CommitResult {
  return { kind: 'refused', transient: isTransient(cause), cause };
}

function valuesOf(last: LastWrite): readonly TripValue[] {
  const { id, owner } = last.ownership;
  switch (last.kind) {
    case 'complete':
      return [id, owner, last.answer.status, writeHeaders(last.answer.headers), last.answer.body, last.retentionMs];
    case 'seal':
      return [id, owner, last.status ?? null, last.retentionMs];
    case 'release':
      return [id, owner, last.retentionMs];
  }
}

const ENDED_BY_HAND =
  'The transaction of this execution was ended by a statement of the handler, and what was to be committed together is torn apart.';
