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

type Write = (withinMs: number) => Promise<Settled>;

export class Persistence {
  readonly #background = new Set<Promise<Tried>>();
  readonly #pauses: Pauses;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
  ) {
    this.#pauses = new Pauses(clock);
  }

  persist(execution: OwnedExecution, ending: Ending): Promise<Persisted> {
    const write = this.#writeOf(execution, ending);
    const { storeTimeoutMs, leaseMs } = execution.settings;
    return this.#stubbornly(write, storeTimeoutMs, storeTimeoutMs).then((outcome) => {
      if (outcome.kind !== 'unreachable') return outcome;
      // The answer leaves without its record. If Postgres comes back while the lease lasts, the
      // record is still made, and a retry gets the answer that left instead of a second run.
      const later = this.#inBackground(this.#stubbornly(write, leaseMs, storeTimeoutMs));
      return { ...outcome, later };
    });
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

  #writeOf(execution: OwnedExecution, ending: Ending): Write {
    const { ownership } = execution;
    const retentionMs = (): number => execution.retentionMsAt(this.clock.now());
    switch (ending.kind) {
      case 'keep':
        return (withinMs) => this.store.complete(ownership, ending.answer, retentionMs(), withinMs);
      case 'seal':
        return (withinMs) => this.store.seal(ownership, ending.status, retentionMs(), withinMs);
      case 'free':
        return this.#free(ownership, retentionMs);
    }
  }

  /** Only the first try can tell a superseded owner from one whose row is gone because it freed it itself. */
  #free(ownership: Ownership, retentionMs: () => number): Write {
    let tries = 0;
    return async (withinMs) => {
      tries += 1;
      const released = await this.store.release(ownership, retentionMs(), withinMs);
      return released !== 'absent' || tries > 1 ? { kind: 'settled' } : { kind: 'superseded', record: undefined };
    };
  }

  /** @param eachMs longest wait for one try: a Postgres that hangs must not hold up a shutdown for a whole lease */
  async #stubbornly(write: Write, forMs: number, eachMs: number): Promise<Tried> {
    const deadline = this.clock.now() + forMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return await write(Math.max(1, Math.min(eachMs, deadline - this.clock.now())));
      } catch (error) {
        if (isIdempotencyError(error) && error.code !== 'IDEMPOTENCY_STORE_UNAVAILABLE') return { kind: 'unreadable', error };
        if (this.clock.now() + pauseMs >= deadline || this.#pauses.stopped) return { kind: 'unreachable', cause: error };
      }
      await this.#pauses.wait(pauseMs);
    }
  }

  #inBackground(work: Promise<Tried>): Promise<Tried> {
    this.#background.add(work);
    return work.finally(() => this.#background.delete(work));
  }
}

/** Keeps a release trying; never leaves this file. */
class NothingThereYet extends Error {}
