/**
 * How requests that would rather wait than be refused come to their verdicts: together. Of all that
 * come with one key, one asks the store, and what it finds is for the others, too; where an answer is
 * in the making they wait for it. Where and for how long they do so is the waiting rooms' business.
 */
import { isIdempotencyError } from '../contract/errors.js';
import type { Claim } from '../contract/record.js';
import type { Admission } from './admission.js';
import type { Claims } from './claims.js';
import type { Observer } from './observer.js';
import { inUse } from './refusals.js';
import type { Roster } from './roster.js';
import type { Found, News, Verdict } from './verdict.js';
import type { WaitingRooms } from './waiting.js';

export class AwaitedClaims {
  /** By key, what those who would wait are asking the store for right now. */
  readonly #asking = new Map<string, Buffer>();

  constructor(
    private readonly claims: Claims,
    private readonly roster: Roster,
    private readonly waiting: WaitingRooms<News>,
    private readonly observer: Observer,
  ) {}

  /** @throws like `Claims.claimOrLook` */
  async claimOrWait(admission: Admission, claim: Claim): Promise<Verdict> {
    if (this.#isInTheMaking(admission)) return this.#wait(admission, claim);
    const found = await this.#askForAll(admission, claim);
    return isInUse(found) ? this.#wait(admission, claim) : found;
  }

  /** The same request is at work here, or asks for its key: what comes of that is for this one, too, and the store need not be asked. */
  #isInTheMaking({ identity, fingerprint }: Admission): boolean {
    const theirs = this.roster.requestAtWork(identity.id) ?? this.#asking.get(identity.id);
    return theirs?.equals(fingerprint) ?? false;
  }

  async #askForAll(admission: Admission, claim: Claim): Promise<Verdict> {
    const { id } = admission.identity;
    const isFirst = !this.#asking.has(id);
    if (isFirst) this.#asking.set(id, admission.fingerprint);
    try {
      return this.#tellOthers(admission, await this.claims.claimOrLook(admission, claim));
    } catch (error) {
      if (isIdempotencyError(error)) this.#tellOthers(admission, { kind: 'refuse', error });
      throw error;
    } finally {
      if (isFirst) this.#asking.delete(id);
    }
  }

  /** If the execution fails that is waited for, one of those who wait takes over. */
  async #wait(admission: Admission, claim: Claim): Promise<Verdict> {
    const { identity, settings, waitMs, signal } = admission;
    const waiter = this.waiting.enter(identity.id, waitMs, signal);
    if (waiter === undefined) return inUse(settings);
    this.observer.waits(admission);
    try {
      for (;;) {
        const wake = await waiter.next();
        if (wake.kind === 'over') return inUse(settings);
        if (wake.kind === 'told' && wake.news.fingerprint.equals(admission.fingerprint)) return asHeard(admission, wake.news.found);
        const found = await this.claims.claimOrLook(admission, claim);
        if (!isInUse(found)) return this.#tellOthers(admission, found);
      }
    } finally {
      waiter.leave();
    }
  }

  #tellOthers({ identity, fingerprint }: Admission, found: Verdict): Verdict {
    if (found.kind !== 'run' && found.kind !== 'bypass' && !isInUse(found)) this.waiting.tell(identity.id, { fingerprint, found });
    return found;
  }
}

function isInUse(verdict: Verdict): boolean {
  return verdict.kind === 'refuse' && verdict.error.code === 'IDEMPOTENCY_KEY_IN_USE';
}

/** Without a store, another route's rule may be another one. */
function asHeard({ settings }: Admission, found: Found): Verdict {
  const isStoreAway = found.kind === 'refuse' && found.error.code === 'IDEMPOTENCY_STORE_UNAVAILABLE';
  return isStoreAway && settings.onStoreFailure === 'bypass' ? { kind: 'bypass' } : found;
}
