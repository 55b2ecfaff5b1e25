/**
 * What the engine asks of a store. It says what must be true afterwards, not how: the real store
 * does it in Postgres, and anything else that keeps these promises may stand in its place.
 *
 * Every method that takes `withinMs` gives up after that many milliseconds. Whenever the store
 * can't be reached, did not answer in time or failed, it throws `StoreUnavailable`, and the write
 * may or may not have happened.
 */
import type {
  Claim,
  ClaimResult,
  FoundRecord,
  Identity,
  Ownership,
  RecordedStep,
  RecordSummary,
  Released,
  Settled,
  StoreStats,
  TakeOverResult,
} from './record.js';
import type { RecordedResponse } from './recorded-response.js';
import type { RecordTransaction, TransactionSettings } from './transaction.js';

/** An execution whose lease is to be prolonged. */
export interface Lease extends Ownership {
  readonly leaseMs: number;
}

export interface IdempotencyStore {
  /**
   * Becomes the owner of a free key, or says what stands there. An expired record counts as none.
   * Of any number of simultaneous claims of one key exactly one is `claimed`. Simultaneous claims of different
   * keys don't see each other, so a limit on live keys can be passed by as many as there are at once.
   */
  claim(claim: Claim, withinMs: number): Promise<ClaimResult>;

  /**
   * Takes a lost or open record over from the owner it was found under. Never waits for a row that a
   * transaction holds.
   */
  takeOver(claim: Claim, from: FoundRecord, withinMs: number): Promise<TakeOverResult>;

  /**
   * Keeps the answer for `retentionMs` from now. Refused once somebody else owns the key. Safe to
   * repeat when the first reply was lost: a second call of the same owner is `settled` as well.
   */
  complete(ownership: Ownership, answer: RecordedResponse, retentionMs: number, withinMs: number): Promise<Settled>;

  /** Ends the execution without a replayable answer, for `retentionMs` from now. Repeatable like `complete`. */
  seal(ownership: Ownership, status: number | undefined, retentionMs: number, withinMs: number): Promise<Settled>;

  /**
   * Gives the key back: the record goes, or becomes open for `retentionMs` where steps were recorded.
   * Never touches another owner's row.
   */
  release(ownership: Ownership, retentionMs: number, withinMs: number): Promise<Released>;

  /** The steps that were recorded in this record's life, by whichever owner, in order. */
  steps(ownership: Ownership, withinMs: number): Promise<readonly RecordedStep[]>;

  /**
   * Records a step, for good, without waiting for whoever holds the record's row. `false` when the
   * owner is superseded. Repeatable: the same owner's same step counts as recorded.
   */
  recordStep(ownership: Ownership, step: RecordedStep, withinMs: number): Promise<boolean>;

  /**
   * Makes a claim durable whose commit has not waited for the disk. `false` when it is not this owner's
   * any more: superseded, or forgotten by a crash of Postgres.
   */
  flush(ownership: Ownership, withinMs: number): Promise<boolean>;

  /**
   * Opens a transaction of the application's. Where it holds the record's row, nobody can take that
   * over while the transaction lives; `undefined` when the claim is lost already: nothing has begun.
   * One of a prompt handler may begin later: see `promptness`.
   */
  transaction(ownership: Ownership, settings: TransactionSettings): Promise<RecordTransaction | undefined>;

  /**
   * Says whether a transaction came through whose COMMIT was not answered. Waits at most `withinMs`
   * for its backend to let go of the row; `undefined` when it has not by then.
   *
   * @param step which one it recorded, for a transaction that did not hold the record's row
   */
  outcomeOf(ownership: Ownership, withinMs: number, step?: string): Promise<'committed' | 'rolled-back' | undefined>;

  /** Prolongs many leases at once; the ids of those that were still owned. */
  renew(leases: readonly Lease[], withinMs: number): Promise<readonly string[]>;

  /**
   * Calls `onHint`, never within this call, when the record may have come to its end at the hands of
   * another process, and once when it begins to listen, since that may have happened before. Hints come
   * for nothing, late, or never: whoever needs to know looks from time to time all the same. Nothing is
   * thrown where hints can't be had. The returned function ends it, and may be called at any time.
   *
   * A store that knows when it can be relied on may tell `onReliance`, within this call or later, and as often
   * as that changes. From `true` on every end is hinted at, an earlier one as well, so that looks need not be
   * frequent; where the record is known to be at work just then, the first hint is left out. With
   * `false`, as when its connection breaks, that is over. A store that never calls it promises nothing.
   */
  listen(id: string, onHint: () => void, onReliance?: (relies: boolean) => void): () => void;

  /**
   * Whether it listens for somebody already, so that one more costs next to nothing, not even a look that
   * was in vain before. A store that has no such thing is asked to listen after that.
   */
  isListening?(): boolean;

  find(identity: Identity): Promise<RecordSummary | undefined>;

  /**
   * Settles a lost, open or sealed record by hand: with an answer it becomes completed, without one it
   * goes, and its steps with it.
   */
  resolve(
    identity: Identity,
    answer: RecordedResponse | undefined,
    retentionMs: number,
  ): Promise<'resolved' | 'absent' | 'live' | 'completed'>;

  /** Removes a record that is not live. `live` leaves a running one alone. */
  forget(identity: Identity): Promise<'removed' | 'absent' | 'live'>;

  /** Removes all records of a scope but the live ones, in bites of `batch` rows read; how many went. */
  forgetScope(scope: string, batch: number): Promise<number>;

  stats(): Promise<StoreStats>;

  /** Removes at most `batch` expired records; how many went. Any number of processes may do so at once. */
  reap(batch: number): Promise<number>;

  /**
   * Looks whether the tables are there and current, and what a careful operator should know.
   *
   * @param needs beyond what every application does
   * @throws SchemaMissing, SchemaOutdated, LiveKeysIndexMissing or StoreUnavailable
   */
  inspect(needs?: StoreNeeds): Promise<StoreFindings>;

  /** Gives every connection back. A call that is still under way fails with `StoreUnavailable`. */
  close(): Promise<void>;
}

export interface StoreNeeds {
  /** Some claim has `maxLiveKeys`. */
  readonly maxLiveKeys: boolean;
}

export interface StoreFindings {
  /** Postgres' setting of that name: with `off`, an answer can leave before its record is on disk. */
  readonly synchronousCommit: string;
  /** The narrowest limit on connections; `undefined` behind a pooler, whose own limits nobody tells us. */
  readonly connectionLimit: ConnectionLimit | undefined;
}

/** How many connections this role may have to this database at once, all processes together. */
export interface ConnectionLimit {
  readonly connections: number;
  /** Whose limit it is: `max_connections` without those that are reserved for others, or a CONNECTION LIMIT. */
  readonly of: 'server' | 'database' | 'role';
}
