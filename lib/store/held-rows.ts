/**
 * Keeps a renewal from waiting behind a transaction of this very process, which would keep every
 * other lease in the same statement waiting too. Rows that are held are left out of renewals, and a
 * row is not taken hold of while a renewal that names it is under way: under REPEATABLE READ that
 * would even undo the transaction.
 *
 * Between processes there is nothing to keep apart: a renewal names its owner's token, and rows that
 * another process holds have another.
 */
import { ById } from '../contract/by-id.js';

export class HeldRows {
  /** By owner token. */
  readonly #held = new ById<true>();
  readonly #renewals = new Map<Promise<unknown>, ReadonlySet<string>>();

  has(owner: string): boolean {
    return this.#held.has(owner);
  }

  /** From now on it is in no renewal. What is to be waited for: those that are under way and name it, mostly none. */
  add(owner: string): Promise<unknown> | undefined {
    this.#held.set(owner, true);
    if (this.#renewals.size === 0) return undefined;
    const underWay = [...this.#renewals].filter(([, owners]) => owners.has(owner)).map(([renewal]) => renewal);
    return underWay.length === 0 ? undefined : Promise.allSettled(underWay);
  }

  delete(owner: string): void {
    this.#held.delete(owner);
  }

  renewing<T>(owners: readonly string[], renewal: Promise<T>): Promise<T> {
    const done = renewal.finally(() => this.#renewals.delete(done));
    this.#renewals.set(done, new Set(owners));
    return done;
  }
}
