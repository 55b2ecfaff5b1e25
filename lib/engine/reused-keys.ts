/**
 * Notices a key that comes with one request after the other: a client that has one key for all that
 * it sends, or puts something new into each retry. A single refusal says nothing of the kind, and
 * many of one request say only that somebody is stubborn; many of different ones do.
 */
import { digest } from './observer.js';

/** A client that was mended after a few refusals is not complained of, and one that was not gets here in minutes. */
export const MANY_REUSES = 10;

interface Suspect {
  readonly keyDigest: string;
  lastFingerprint: Buffer;
  reuses: number;
}

export class ReusedKeys {
  /** One for each handler is enough: a key that is always the same outvotes all others. */
  readonly #suspects = new Map<string, Suspect | 'told'>();

  /**
   * Notes a request that was refused because its key belongs to another one.
   *
   * @returns the key's digest when it is time to complain, which is once for each handler
   */
  note(handler: string, key: string, fingerprint: Buffer): string | undefined {
    const suspect = this.#suspects.get(handler);
    if (suspect === 'told') return undefined;
    const keyDigest = digest(key);
    if (suspect === undefined || suspect.reuses === 0) {
      this.#suspects.set(handler, { keyDigest, lastFingerprint: fingerprint, reuses: 1 });
      return undefined;
    }
    if (suspect.keyDigest !== keyDigest) suspect.reuses -= 1;
    else if (!suspect.lastFingerprint.equals(fingerprint)) {
      suspect.lastFingerprint = fingerprint;
      suspect.reuses += 1;
    }
    if (suspect.reuses < MANY_REUSES) return undefined;
    this.#suspects.set(handler, 'told');
    return keyDigest;
  }
}
