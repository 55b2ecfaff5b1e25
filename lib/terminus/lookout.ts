/** Looks for lost records, and remembers for a while: probes come every few seconds, and the whole table is read. */
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';

/** What a person must look into can wait for so long. */
const REMEMBERED_MS = 60_000;

export interface LostRecords {
  readonly count: number;
  /** Since the lease of the oldest one ran out; 0 when there is none. Minutes matter here, so a difference between the database's clock and ours does not. */
  readonly oldestMs: number;
}

export class Lookout {
  #last: { readonly at: number; readonly found: Promise<LostRecords> } | undefined;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
  ) {}

  /** Those who ask together get one answer. @throws StoreUnavailable, which is not remembered */
  lost(): Promise<LostRecords> {
    const now = this.clock.now();
    if (this.#last !== undefined && now - this.#last.at < REMEMBERED_MS) return this.#last.found;
    const found = this.#find();
    this.#last = { at: now, found };
    found.catch(() => {
      if (this.#last?.found === found) this.#last = undefined;
    });
    return found;
  }

  async #find(): Promise<LostRecords> {
    const { lost, oldestLost } = await this.store.stats();
    return { count: lost, oldestMs: oldestLost === undefined ? 0 : Math.max(0, Date.now() - oldestLost.getTime()) };
  }
}
