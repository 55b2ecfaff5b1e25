/**
 * One transaction on a connection of the application's: what is sent when, and what its answers mean.
 * Its own statements go to the bare connection; what handlers send passes the gate first.
 */
import type { QueryResult } from 'pg';
import type { Clock } from '../contract/clock.js';
import { ExecutionSuperseded, StoreUnavailable, TransactionMisused, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Promptness } from '../contract/promptness.js';
import type { Ownership, RecordedStep } from '../contract/record.js';
import type { CommitResult, KeepingWrite, LastWrite, RecordTransaction, TransactionClient } from '../contract/transaction.js';
import type { Member } from './crowd.js';
import { handlersClient } from './handlers-client.js';
import type { HeldRows } from './held-rows.js';
import { valuesOf } from './last-write.js';
import type { Loan } from './loan.js';
import { Opening, lookOut } from './opening.js';
import { takesAlong, type Passenger } from './passenger.js';
import { GaveUp, inTime } from './patience.js';
import { DIVISION_BY_ZERO, codeOf, endsConnection, isOfAbortedTransaction, isTransient } from './postgres-error.js';
import { deadlineIn, type Deadline, type Statement } from './session.js';
import { CHECK_CONSTRAINTS, COMMIT, KEEP_ALIVE, ROLL_BACK, savepoint, type Statements } from './statements.js';
import type { TransactionGate } from './transaction-gate.js';
import { Trip, isForgotten } from './trip.js';
import type { TripAnswer, TripStatement } from './trip.js';

/** What all transactions of a store have in common. */
export interface TransactionParts {
  readonly sql: Statements;
  readonly held: HeldRows;
  readonly clock: Clock;
  readonly preparedStatements: boolean;
  readonly onStatement: ((name: string) => void) | undefined;
  readonly onOver: (transaction: PgTransaction) => void;
}

const nothing = (): void => undefined;

const COMMITTING: TripStatement = { statement: COMMIT };
const COMMITTED: CommitResult = { kind: 'committed' };
const SUPERSEDED: CommitResult = { kind: 'superseded' };

export class PgTransaction implements RecordTransaction, Member {
  place = 0;
  readonly client: TransactionClient;
  /** Whose rows it holds; the one that it has begun with is the first. */
  readonly #owners: string[] = [];
  /** The row that it has begun with. */
  #holds: Ownership | undefined;
  /** Until it has begun, where it begins with the handler's first statement; for good if it could not. */
  #opening: Opening | undefined;
  #savepoints = 0;
  #beating = false;
  #ending = false;
  #broken: Error | undefined;

  /** @param patienceMs longest wait for each of its own statements, COMMIT included */
  constructor(
    private readonly parts: TransactionParts,
    private readonly loan: Loan,
    private readonly gate: TransactionGate,
    private readonly patienceMs: number,
  ) {
    this.client = handlersClient(loan.client, gate);
    loan.client.on('error', this.#onBroken);
  }

  get manager(): unknown {
    return this.loan.manager;
  }

  /**
   * With the handler's first statement, if that is to be expected at once; else before it resolves.
   *
   * @returns `false`: the row that it should hold is not this owner's any more. One that begins later tells its handler.
   */
  async begin(
    beginning: readonly TripStatement[],
    holds: Ownership | undefined,
    deadline: Deadline,
    promptness: Promptness | undefined,
  ): Promise<boolean> {
    const { loan, gate } = this;
    this.#holds = holds;
    const renewals = holds && this.#keepFromRenewal(holds.owner, deadline);
    if (renewals !== undefined) await renewals;
    if (promptness?.isPrompt === true && takesAlong(loan.client)) {
      const begin = (passenger?: Passenger): Promise<void> => this.#beginLater(beginning, deadline, passenger);
      this.#opening = new Opening({ client: loan.client, gate, promptness, begin });
      return true;
    }
    const begun = await this.#begin(beginning, deadline);
    if (promptness?.isLate === false) lookOut(loan.client, gate, promptness);
    return begun;
  }

  async #beginLater(beginning: readonly TripStatement[], deadline: Deadline, passenger: Passenger | undefined): Promise<void> {
    try {
      if (!(await this.#begin(beginning, deadline, passenger))) throw new ExecutionSuperseded();
      this.#opening = undefined;
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  /** What goes along may take its time. */
  async #begin(beginning: readonly TripStatement[], deadline: Deadline, passenger?: Passenger): Promise<boolean> {
    for (let forgotten = false; ;) {
      const trip = new Trip(beginning, this.parts.preparedStatements, passenger);
      try {
        await this.#sendTogether(trip, passenger === undefined ? deadline.leftMs() : Infinity);
        return true;
      } catch (error) {
        if (codeOf(error) === DIVISION_BY_ZERO) return false;
        const again = isTransient(error) || (!forgotten && isForgotten(error));
        if (!again || this.#ending) throw error;
        forgotten ||= isForgotten(error); // the application has made the connection forget what it had prepared
        await this.#send(ROLL_BACK, undefined, deadline.leftMs()); // the row was written to in that very instant: it must be looked at again
        if (this.#ending) throw error;
      }
    }
  }

  /** `undefined`: it has begun. Otherwise no longer than is waited behind any other statement of the handler's. */
  #beginNow(): Promise<void> | undefined {
    const { clock } = this.parts;
    const begun = this.#opening?.begun();
    return (
      begun &&
      inTime(begun, deadlineIn(clock, this.patienceMs), clock).catch((error: unknown) => {
        throw error instanceof GaveUp ? this.#explained(error) : error;
      })
    );
  }

  /** Waits its turn behind the handler's statements however long those take: while one is running, Postgres is not idle. */
  async keepAlive(): Promise<void> {
    if (this.#beating || this.#ending || this.#broken !== undefined || this.#opening !== undefined) return;
    this.#beating = true;
    this.parts.onStatement?.(KEEP_ALIVE.name);
    await this.loan.client.query(KEEP_ALIVE.text).catch(() => undefined);
    this.#beating = false;
  }

  async probe(): Promise<void> {
    await this.#beginNow();
    this.#assertOpen();
    const constraints = { statement: CHECK_CONSTRAINTS };
    const held = this.#holds;
    await this.#sendTogether(
      this.#trip(held === undefined ? [constraints] : [constraints, { statement: this.parts.sql.meetDoom, values: [held.id] }]),
    );
  }

  async savepoint<T>(work: () => Promise<T>): Promise<T> {
    const { set, release, undo } = savepoint((this.#savepoints += 1));
    const { nesting } = this.loan;
    await this.#ask(set);
    try {
      const result = await work();
      await this.#ask(release);
      return result;
    } catch (error) {
      await this.#ask(undo).catch(() => undefined); // what went wrong first is what counts
      this.loan.nesting = nesting;
      throw error;
    }
  }

  /**
   * Another execution's, one that runs within this one. Its row is taken hold of before: from its last
   * write on, its lease can't be renewed from elsewhere.
   */
  async write(last: LastWrite): Promise<boolean> {
    const { id, owner } = last.ownership;
    await this.#beginNow();
    this.#assertOpen();
    await this.#keepFromRenewal(owner, deadlineIn(this.parts.clock, this.patienceMs));
    const statements = [{ statement: this.parts.sql.hold, values: [id, owner] }, this.#written(last)];
    return (await this.#sendTogether(this.#trip(statements))).count === 1;
  }

  async recordStep({ id, owner }: Ownership, { name, result }: RecordedStep): Promise<boolean> {
    return (await this.#ask(this.parts.sql.recordStep, [id, owner, name, result])).rowCount === 1;
  }

  /** A COMMIT behind a last write that has failed is passed over, and the transaction still there. */
  commit(last?: KeepingWrite): Promise<CommitResult> {
    return this.#end(last === undefined ? [COMMITTING] : [this.#writtenOrFailed(last), COMMITTING], ({ command }) => {
      if (command === 'COMMIT') return COMMITTED;
      return refused(this.gate.failure ?? new Error('The transaction was aborted by an earlier error.'));
    });
  }

  /**
   * What the handler wrote is gone before the record is written to, which commits by itself then. A savepoint before
   * the handler would keep the row held in between. But then every request pays for it, most of which undo nothing:
   * its rows would be a subtransaction's, with a transaction id and WAL of its own, and to complete a row that the
   * transaction around it has locked makes a multixact each time.
   */
  undo(last: LastWrite): Promise<CommitResult> {
    return this.#end([{ statement: ROLL_BACK }, this.#written(last)], ({ count }) => (count === 1 ? COMMITTED : SUPERSEDED));
  }

  async rollBack(): Promise<void> {
    this.gate.close();
    if (this.#ending) return;
    this.#ending = true;
    if (this.#opening?.hasLeft === false) this.#opening = undefined;
    else await this.#rollBack();
    this.#giveBack();
  }

  async #end(statements: readonly TripStatement[], judge: (last: TripAnswer) => CommitResult): Promise<CommitResult> {
    this.gate.close();
    try {
      const beginning = this.#beginNow();
      if (beginning !== undefined) await beginning;
      this.#assertOpen();
    } catch (cause) {
      await this.rollBack();
      return cause instanceof ExecutionSuperseded ? SUPERSEDED : refused(cause);
    }
    this.#ending = true;
    const trip = this.#trip(statements);
    let result: CommitResult;
    try {
      result = judge(await this.#sendTogether(trip));
    } catch (cause) {
      result = await this.#judgeFailure(cause, trip.failure, statements.length - 1);
    }
    this.#giveBack();
    return result;
  }

  async #judgeFailure(cause: unknown, failure: Trip['failure'], last: number): Promise<CommitResult> {
    if (this.#broken !== undefined) return { kind: 'unknown', cause: this.#broken };
    if (failure !== undefined && failure.at < last) {
      await this.#rollBack();
      if (codeOf(failure.error) === DIVISION_BY_ZERO) return SUPERSEDED;
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
    return { statement: this.parts.sql[last.kind], values: valuesOf(last) };
  }

  #writtenOrFailed(last: KeepingWrite): TripStatement {
    const { completeOrFail, sealOrFail } = this.parts.sql;
    return { statement: last.kind === 'complete' ? completeOrFail : sealOrFail, values: valuesOf(last) };
  }

  /** Between its beginning and its end. Afterwards the connection may be somebody else's. */
  #assertOpen(): void {
    if (this.#ending) throw new StoreUnavailable({ cause: new Error('The transaction is over.') });
    this.#assertUnbroken();
    // The gate reads the beginning of a text only. Older drivers can't tell more.
    if (this.loan.client.getTransactionStatus?.() === 'I') throw new TransactionMisused(ENDED_BY_HAND);
  }

  #assertUnbroken(): void {
    if (this.#broken !== undefined) throw new StoreUnavailable({ cause: this.#broken });
  }

  async #ask(statement: Statement, values?: readonly unknown[]): Promise<QueryResult> {
    await this.#beginNow();
    this.#assertOpen();
    return this.#send(statement, values);
  }

  /** From now on it is in no renewal. What is to be waited for, mostly nothing. */
  #keepFromRenewal(owner: string, deadline: Deadline): Promise<unknown> | undefined {
    const { held, clock } = this.parts;
    this.#owners.push(owner);
    const renewals = held.add(owner);
    return (
      renewals &&
      inTime(renewals, deadline, clock).catch((cause: unknown) => {
        throw new StoreUnavailable({ cause });
      })
    );
  }

  async #send({ name, text }: Statement, values?: readonly unknown[], withinMs = this.patienceMs): Promise<QueryResult> {
    const { loan, gate } = this;
    this.#assertUnbroken();
    this.parts.onStatement?.(name);
    try {
      const answer = gate.watch(loan.client.query(text, values && [...values]));
      return await inTime(answer, deadlineIn(this.parts.clock, withinMs), this.parts.clock);
    } catch (error) {
      throw this.#explained(error);
    }
  }

  /** Tells the last statement's answer. */
  #sendTogether(trip: Trip, withinMs = this.patienceMs): Promise<TripAnswer> {
    const { clock, onStatement } = this.parts;
    return new Promise((resolve, reject) => {
      this.#assertUnbroken();
      if (onStatement !== undefined) trip.names.forEach((name) => onStatement(name));
      const giveUp = (error: unknown): void => {
        cancel();
        reject(this.#explained(error) as Error);
      };
      const cancel = withinMs === Infinity ? nothing : clock.after(withinMs, () => giveUp(new GaveUp('Postgres did not answer in time.')));
      trip.on(
        this.loan.client,
        (last) => {
          cancel();
          resolve(last);
        },
        (error) => {
          this.gate.failed(error);
          giveUp(error);
        },
      );
    });
  }

  /** In an aborted transaction every error but the first only says that it is aborted. */
  #explained(error: unknown): unknown {
    if (endsConnection(error)) {
      this.#broken ??= error as Error;
      return new StoreUnavailable({ cause: error });
    }
    return isOfAbortedTransaction(error) ? (this.gate.failure ?? error) : error;
  }

  readonly #onBroken = (error: Error): void => {
    this.#broken ??= error;
  };

  #giveBack(): void {
    const { held, onOver } = this.parts;
    this.loan.giveBack(this.#broken);
    this.loan.client.off('error', this.#onBroken);
    for (const owner of this.#owners) held.delete(owner);
    onOver(this);
  }
}

/** What whoever opens a transaction is to hear. */
export function unavailable(cause: unknown): IdempotencyError {
  return isIdempotencyError(cause) ? cause : new StoreUnavailable({ cause });
}

function refused(cause: unknown): CommitResult {
  return { kind: 'refused', transient: isTransient(cause), cause };
}

const ENDED_BY_HAND =
  'The transaction of this execution was ended by a statement of the handler, and what was to be committed together is torn apart.';
