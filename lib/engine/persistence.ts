/**
 * Gets an execution's last write into the store, however often that takes: at once, again until
 * the route's time for it is over, and after that in the background while the lease lasts.
 * It knows how to be stubborn; what the outcome means is the engine's to say.
 */
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Ownership, Settled } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { Ending } from './verdict.js';
import type { OwnedExecution } from './execution.js';
import { Pauses } from './pauses.js';

export type Persisted =
  | Settled
  /** The time for it is over. `later` resolves when the background has succeeded or given up. */
  | { readonly kind: 'unreachable'; readonly cause: unknown; readonly later: Promise<Tried> }
  | { readonly kind: 'unreadable'; readonly error: IdempotencyError };

/** What came of trying for some time. */
type Tried =
  Settled | { readonly kind: 'unreachable'; readonly cause: unknown } | { readonly kind: 'unreadable'; readonly error: IdempotencyError };

/** A connection is replaced within milliseconds, a failed-over server within seconds. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

/** Fails by its promise alone. */
type Write = (withinMs: number) => Promise<Settled>;

/** What follows from how an execution's last write has ended. */
type Told<T> = (execution: OwnedExecution, ending: Ending, outcome: Persisted) => T;

export class Persistence {
  readonly #background = new Set<Promise<Tried>>();
  readonly #pauses: Pauses;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
  ) {
    this.#pauses = new Pauses(clock);
  }

  /**
   * The first try is mostly the only one, and what it comes to is told in the same turn: every answer waits for this.
   *
   * @param told what follows from the outcome
   */
  persist<T>(execution: OwnedExecution, ending: Ending, told: Told<T>): Promise<T> {
    const { storeTimeoutMs } = execution.settings;
    const deadline = this.clock.now() + storeTimeoutMs;
    return this.#firstTry(execution, ending, storeTimeoutMs).then(
      (outcome) => told(execution, ending, outcome),
      async (failure: unknown) => told(execution, ending, await this.#tryAgain(execution, ending, failure, deadline)),
    );
  }

  /** What fails before there is a promise, such as a cipher, is one more reason to try again. */
  #firstTry(execution: OwnedExecution, ending: Ending, withinMs: number): Promise<Settled> {
    try {
      return this.#write(execution, ending, withinMs, true);
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  async #tryAgain(execution: OwnedExecution, ending: Ending, failure: unknown, deadline: number): Promise<Persisted> {
    const { leaseMs, storeTimeoutMs } = execution.settings;
    const again: Write = async (withinMs) => this.#write(execution, ending, withinMs, false);
    const outcome = await this.#goOn(again, failure, deadline, storeTimeoutMs);
    if (outcome.kind !== 'unreachable') return outcome;
    // The answer leaves without its record. If Postgres comes back while the lease lasts, the
    // record is still made, and a retry gets the answer that left instead of a second run.
    const later = this.#inBackground(this.#stubbornly(again, leaseMs, storeTimeoutMs));
    return { ...outcome, later };
  }

  /**
   * Takes back a claim of which nobody knows whether it arrived. It may even arrive after the
   * release did: hence again and again, until one row was removed or the lease is over anyway.
   */
  releaseLater(claim: Ownership, { leaseMs, storeTimeoutMs, retentionMs }: ExecutionSettings): void {
    const release: Write = async (withinMs) => {
      if ((await this.store.release(claim, retentionMs, withinMs)) !== 'absent') return { kind: 'settled' };
      throw new NothingThereYet();
    };
    void this.#inBackground(this.#stubbornly(release, leaseMs, storeTimeoutMs));
  }

  /** Gives up whatever is still waiting for another try; resolves when no write is under way. */
  async stop(): Promise<void> {
    this.#pauses.stop();
    await Promise.all(this.#background);
  }

  #write(execution: OwnedExecution, ending: Ending, withinMs: number, isFirst: boolean): Promise<Settled> {
    const { ownership } = execution;
    const retentionMs = execution.retentionMsAt(this.clock.now());
    switch (ending.kind) {
      case 'keep':
        return this.store.complete(ownership, ending.answer, retentionMs, withinMs);
      case 'seal':
        return this.store.seal(ownership, ending.status, retentionMs, withinMs);
      case 'free':
        return this.#free(ownership, retentionMs, withinMs, isFirst);
    }
  }

  /** Only the first try can tell a superseded owner from one whose row is gone because it freed it itself. */
  async #free(ownership: Ownership, retentionMs: number, withinMs: number, isFirst: boolean): Promise<Settled> {
    const released = await this.store.release(ownership, retentionMs, withinMs);
    return released !== 'absent' || !isFirst ? { kind: 'settled' } : { kind: 'superseded', record: undefined };
  }

  /** @param eachMs longest wait for one try: a Postgres that hangs must not hold up a shutdown for a whole lease */
  #stubbornly(write: Write, forMs: number, eachMs: number): Promise<Tried> {
    const deadline = this.clock.now() + forMs;
    return write(this.#patience(deadline, eachMs)).catch((failure: unknown) => this.#goOn(write, failure, deadline, eachMs));
  }

  /** After a first try that failed. */
  async #goOn(write: Write, firstFailure: unknown, deadline: number, eachMs: number): Promise<Tried> {
    let failure = firstFailure;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      if (isIdempotencyError(failure) && failure.code !== 'IDEMPOTENCY_STORE_UNAVAILABLE') return { kind: 'unreadable', error: failure };
      if (this.clock.now() + pauseMs >= deadline || this.#pauses.stopped) return { kind: 'unreachable', cause: failure };
      await this.#pauses.wait(pauseMs);
      try {
        return await write(this.#patience(deadline, eachMs));
      } catch (error) {
        failure = error;
      }
    }
  }

  #patience(deadline: number, eachMs: number): number {
    return Math.max(1, Math.min(eachMs, deadline - this.clock.now()));
  }

  #inBackground(work: Promise<Tried>): Promise<Tried> {
    this.#background.add(work);
    return work.finally(() => this.#background.delete(work));
  }
}

/** Keeps a release trying; never leaves this file. */
class NothingThereYet extends Error {}
