/** Waiting that can be called off: nothing of the module may outlive the application. */
import type { Clock } from '../contract/clock.js';

export class Pauses {
  readonly #waiting = new Set<() => void>();
  #stopped = false;

  constructor(private readonly clock: Clock) {}

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Resolves after `ms`, or at once when everything stops: look at `stopped` afterwards. */
  wait(ms: number): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        this.#waiting.delete(wake);
        resolve();
      };
      const cancel = this.clock.after(ms, wake);
      this.#waiting.add(wake);
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const wake of this.#waiting) wake();
  }
}
