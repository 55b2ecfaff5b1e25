/**
 * How long an answer is waited for that may never come. While the handler works, or the client is
 * there to hang up, nobody counts. After both a writer may still come, from a timer or another
 * stream, but it must show signs of life.
 */
import type { Clock } from '../contract/clock.js';

export class Patience {
  #handlerDone = false;
  #clientGone = false;
  #stopped = false;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly patienceMs: number,
    private readonly giveUp: () => void,
  ) {}

  handlerDone(): void {
    this.#handlerDone = true;
    this.renew();
  }

  clientGone(): void {
    this.#clientGone = true;
    this.renew();
  }

  /** Somebody has written: the waiting starts again. */
  renew(): void {
    if (this.#stopped || !this.#handlerDone || !this.#clientGone) return;
    this.#cancel?.();
    this.#cancel = this.clock.after(this.patienceMs, this.giveUp);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }
}
