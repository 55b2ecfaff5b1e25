/**
 * Removes expired records in bites. Housekeeping only: an expired key is free at once, reaped or
 * not. Several processes may reap one table at the same time.
 */
import type { Clock } from '../contract/clock.js';
import type { EventSink } from '../contract/events.js';
import type { IdempotencyStore } from '../contract/store.js';
import { Pauses } from './pauses.js';

/** Between two bites others get their turn at the table and at the module's small pool. */
const PAUSE_MS = 50;

/** A round that fails may be Postgres restarting; after several the records pile up. */
const MISSED_ROUNDS = 3;

/** Processes that were started together should not all reap at the same moment. */
const JITTER = 0.2;

export interface ReaperSettings {
  readonly everyMs: number;
  /** Records a bite. */
  readonly batch: number;
}

export class Reaper {
  readonly #pauses: Pauses;
  #running: Promise<void> | undefined;
  /** When it was started, or had a bite last. */
  #lastSignOfLife: number | undefined;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly settings: ReaperSettings,
    private readonly clock: Clock,
    private readonly events: EventSink,
    private readonly onFailure: (cause: unknown) => void,
    private readonly random: () => number = Math.random,
  ) {
    this.#pauses = new Pauses(clock);
  }

  start(): void {
    this.#lastSignOfLife ??= this.clock.now();
    this.#running ??= this.#run();
  }

  /** Whether its rounds succeed. A long one, over a great many records, does so bite by bite. */
  get alive(): boolean {
    if (this.#lastSignOfLife === undefined) return true;
    return this.clock.now() - this.#lastSignOfLife <= MISSED_ROUNDS * this.settings.everyMs;
  }

  /** Resolves when no bite is under way any more. */
  async stop(): Promise<void> {
    this.#pauses.stop();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#pauses.wait(this.settings.everyMs * (1 - JITTER * this.random()));
      if (this.#pauses.stopped) return;
      await this.#reapAll();
    }
  }

  async #reapAll(): Promise<void> {
    const startedAt = this.clock.now();
    let removed = 0;
    try {
      for (let bite = this.settings.batch; bite === this.settings.batch && !this.#pauses.stopped;) {
        bite = await this.store.reap(this.settings.batch);
        this.#lastSignOfLife = this.clock.now();
        removed += bite;
        if (bite === this.settings.batch) await this.#pauses.wait(PAUSE_MS);
      }
    } catch (cause) {
      if (!this.#pauses.stopped) this.onFailure(cause);
    }
    if (removed > 0 && this.events.wants('reaped')) {
      this.events.emit({ type: 'reaped', removed, durationMs: this.clock.now() - startedAt });
    }
  }
}
