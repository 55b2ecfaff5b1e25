/** Time that stands still until a test moves it. */
import { setImmediate as macrotask } from 'node:timers/promises';
import type { Clock } from '../contract/clock.js';

interface Task {
  readonly at: number;
  readonly run: () => void;
}

/**
 * A clock for tests: leases, retention and the module's own timers end when the test says so.
 *
 * ```ts
 * const clock = new ManualClock();
 * // … an application with IdempotencyTestingModule.forRoot({ clock })
 * await clock.advance(24 * 3_600_000); // the answers have expired
 * ```
 */
export class ManualClock implements Clock {
  #now = 0;
  readonly #tasks = new Set<Task>();

  /** Milliseconds that have been let pass. */
  now(): number {
    return this.#now;
  }

  after(delayMs: number, task: () => void): () => void {
    const entry = { at: this.#now + delayMs, run: task };
    this.#tasks.add(entry);
    return () => this.#tasks.delete(entry);
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#tasks.size;
  }

  /** Lets `ms` pass. What becomes due on the way runs in its order, and whatever it sets going comes to rest before time goes on. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await macrotask();
    for (let next = this.#firstDue(until); next !== undefined; next = this.#firstDue(until)) {
      this.#tasks.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await macrotask(); // all that promises have left to do comes before it
    }
    this.#now = until;
  }

  #firstDue(until: number): Task | undefined {
    let first: Task | undefined;
    for (const task of this.#tasks) if (task.at <= until && (first === undefined || task.at < first.at)) first = task;
    return first;
  }
}
