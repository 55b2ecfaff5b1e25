/**
 * How requests that would rather wait than be refused come to their verdicts: where an answer is in the
 * making they wait for it, and hear what comes of it or what one of them has found. Where and for how
 * long they do so is the waiting rooms' business, and who asks the store is the looks'.
 */
import type { Admission } from './admission.js';
import type { Looks } from './looks.js';
import type { Observer } from './observer.js';
import { inUse } from './refusals.js';
import type { News, Verdict } from './verdict.js';
import type { Waiter, WaitingRooms } from './waiting.js';

export class AwaitedClaims {
  constructor(
    private readonly looks: Looks,
    private readonly waiting: WaitingRooms<News>,
    private readonly observer: Observer,
  ) {}

  /** If the execution fails that is waited for, one of those who wait takes over. */
  async claimOrWait(admission: Admission): Promise<Verdict> {
    const place: { waiter: Waiter<News> | undefined } = { waiter: undefined };
    const mayWait = (): boolean => (place.waiter ??= this.#enter(admission)) !== undefined;
    try {
      let verdict = await this.looks.ask(admission, mayWait);
      while (verdict === 'waits') {
        const wake = await place.waiter!.next();
        if (wake.kind === 'over') return inUse(admission.settings);
        const heard = wake.kind === 'told' ? this.looks.heard(admission, wake.news, mayWait) : undefined;
        verdict = heard ?? (await this.looks.ask(admission, mayWait));
      }
      return verdict;
    } finally {
      place.waiter?.leave();
    }
  }

  /** `undefined` where there is no place any more. */
  #enter(admission: Admission): Waiter<News> | undefined {
    const { identity, waitMs, client } = admission;
    const waiter = this.waiting.enter(identity.id, waitMs, client?.signal);
    if (waiter !== undefined) this.observer.waits(admission);
    return waiter;
  }
}
