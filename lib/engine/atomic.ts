/**
 * Executions whose business rows and record commit together: how their transaction begins, stays
 * alive, and ends. It knows the order of things; what a COMMIT is, is the store's knowledge.
 *
 * The claim is committed before, by a statement of its own and under a short lease, so that no other
 * claim ever waits for an open transaction. The transaction then holds the record's row, and that
 * lock takes the lease's place: it is gone the moment the process or its connection is, so the key of
 * a crashed execution is free at once. Nobody writes to the row from elsewhere meanwhile, which under
 * REPEATABLE READ would doom the completion.
 */
import { ById } from '../contract/by-id.js';
import { Promptness } from '../contract/promptness.js';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable, TransactionFailed, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { AtomicSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { CommitResult, KeepingWrite, LastWrite, RecordTransaction } from '../contract/transaction.js';
import type { Ending } from './verdict.js';
import type { OwnedExecution } from './execution.js';

/**
 * The lease of a claim whose transaction has not begun. Until then it is renewed as any other, and
 * afterwards it stands for nothing; so it only needs to outlive two lost renewals.
 */
export const LEASE_BEFORE_BEGIN_MS = 3_000;

/** Two of these may go missing before Postgres takes the transaction for dead. */
const BEATS_PER_LEASE = 3;

export type AtomicEnd =
  | { readonly kind: 'settled' }
  | { readonly kind: 'superseded' }
  /** Nothing is left of the transaction, and the key is to be given back. */
  | { readonly kind: 'rolled-back'; readonly error: IdempotencyError }
  /** Nobody knows, and the key stays taken until its backend has gone. */
  | { readonly kind: 'unknown'; readonly error: IdempotencyError };

interface Open {
  readonly transaction: RecordTransaction;
  readonly stopBeat: () => void;
}

export class AtomicTransactions {
  /** Those that are open, by their execution's token. */
  readonly #open = new ById<Open>();
  /** Of handlers and of the operations of a `run`, each of which has settings of its own. */
  readonly #promptness = new WeakMap<AtomicSettings, Promptness>();

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
    private readonly guard: () => void,
  ) {}

  /** `undefined`: the claim is lost already, and nothing has begun. */
  async open(execution: OwnedExecution, atomic: AtomicSettings): Promise<RecordTransaction | undefined> {
    const { leaseMs, storeTimeoutMs } = execution.settings;
    const transaction = await this.store.transaction(execution.ownership, {
      isolation: atomic.isolation,
      idleMs: leaseMs,
      connectMs: storeTimeoutMs,
      guard: this.guard,
      holdsRecord: execution.keyed,
      promptness: this.#promptnessOf(atomic),
    });
    if (transaction !== undefined) this.#beat(execution.ownership.owner, transaction, leaseMs / BEATS_PER_LEASE);
    return transaction;
  }

  #promptnessOf(atomic: AtomicSettings): Promptness {
    let promptness = this.#promptness.get(atomic);
    if (promptness === undefined) this.#promptness.set(atomic, (promptness = new Promptness()));
    return promptness;
  }

  async end(execution: OwnedExecution, transaction: RecordTransaction, ending: Ending): Promise<AtomicEnd> {
    this.#stop(execution);
    let result: CommitResult;
    try {
      result = await endOf(execution, transaction, ending);
    } catch (cause) {
      await transaction.rollBack(); // what was to be written could not even be put into words
      return { kind: 'rolled-back', error: failureOf(cause) };
    }
    return this.#told(execution, result);
  }

  /** Ends all that are open: the application closes, and has no more time for them. */
  async close(): Promise<void> {
    const open = this.#open.all();
    for (const { stopBeat } of open) stopBeat();
    this.#open.clear();
    await Promise.all(open.map(({ transaction }) => transaction.rollBack()));
  }

  /** Ends it without a trace. */
  async abandon(execution: OwnedExecution, transaction: RecordTransaction): Promise<void> {
    this.#stop(execution);
    await transaction.rollBack();
  }

  #told(execution: OwnedExecution, result: CommitResult): AtomicEnd | Promise<AtomicEnd> {
    switch (result.kind) {
      case 'committed':
        return { kind: 'settled' };
      case 'superseded':
        return { kind: 'superseded' };
      case 'refused':
        return { kind: 'rolled-back', error: failureOf(result.cause, result.transient) };
      case 'unknown':
        return this.#findOut(execution, result.cause);
    }
  }

  /** The backend may still be committing: only the row's lock tells when it is done. */
  async #findOut(execution: OwnedExecution, cause: unknown): Promise<AtomicEnd> {
    const error = new StoreUnavailable({ cause });
    if (!execution.keyed) return { kind: 'unknown', error };
    try {
      const outcome = await this.store.outcomeOf(execution.ownership, execution.settings.storeTimeoutMs);
      if (outcome === 'committed') return { kind: 'settled' };
      return { kind: outcome === 'rolled-back' ? 'rolled-back' : 'unknown', error };
    } catch {
      return { kind: 'unknown', error };
    }
  }

  #beat(owner: string, transaction: RecordTransaction, everyMs: number): void {
    const stopBeat = this.clock.after(everyMs, () => {
      void transaction.keepAlive();
      this.#beat(owner, transaction, everyMs);
    });
    this.#open.set(owner, { transaction, stopBeat });
  }

  #stop({ ownership }: OwnedExecution): void {
    this.#open.get(ownership.owner)?.stopBeat();
    this.#open.delete(ownership.owner);
  }
}

function endOf(execution: OwnedExecution, transaction: RecordTransaction, ending: Ending): Promise<CommitResult> {
  const { keyed } = execution;
  if (ending.kind !== 'free' && !ending.undo) return transaction.commit(keyed ? keepingWrite(execution, ending) : undefined);
  if (keyed) return transaction.undo(lastWrite(execution, ending));
  return transaction.rollBack().then(() => ({ kind: 'committed' }));
}

function lastWrite(execution: OwnedExecution, ending: Ending): LastWrite {
  if (ending.kind !== 'free') return keepingWrite(execution, ending);
  const { ownership, settings } = execution;
  return { kind: 'release', ownership, retentionMs: settings.retentionMs };
}

export function keepingWrite({ ownership, settings }: OwnedExecution, ending: Exclude<Ending, { kind: 'free' }>): KeepingWrite {
  const { retentionMs } = settings;
  return ending.kind === 'keep'
    ? { kind: 'complete', ownership, retentionMs, answer: ending.answer }
    : { kind: 'seal', ownership, retentionMs, status: ending.status };
}

/**
 * Meets another transaction now rather than at COMMIT, when the answer is made and the handler can't be
 * repeated any more. What else is wrong is found again at the end, and told there.
 *
 * @throws what another run of the handler may not meet
 */
export async function probe(transaction: RecordTransaction): Promise<void> {
  await transaction.probe().catch((error: unknown) => {
    if (isTransient(error)) throw error;
  });
}

/** A statement of ours failed: the handler had met an error that it did not pass on, or the connection is gone. */
export function failureOf(cause: unknown, transient = isTransient(cause)): IdempotencyError {
  return isIdempotencyError(cause) ? cause : new TransactionFailed(transient, { cause });
}

/** Serialization failure and deadlock, as Postgres names them; drivers and ORMs wrap its error. */
const TRANSIENT_CODES: ReadonlySet<unknown> = new Set(['40001', '40P01']);

export function isTransient(error: unknown): boolean {
  for (let at = error, depth = 0; typeof at === 'object' && at !== null && depth < 5; depth++) {
    if ('code' in at && TRANSIENT_CODES.has(at.code)) return true;
    at = 'driverError' in at ? at.driverError : 'cause' in at ? at.cause : undefined;
  }
  return false;
}
