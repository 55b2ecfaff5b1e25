/** Who is at work in this process: to find one by its key, to wait until all are done, and to call off those that have not begun. */
import { ById } from '../contract/by-id.js';
import type { Clock } from '../contract/clock.js';
import type { OwnedExecution } from './execution.js';

export class Roster {
  /** The latest of each key. */
  readonly #byKey = new ById<OwnedExecution>();
  /** Those without a key, and those that were superseded right here and are still at work. */
  readonly #others = new Set<OwnedExecution>();
  /** Requests whose claim is on its way. */
  #beginning = 0;
  #whenIdle: (() => void) | undefined;

  constructor(private readonly clock: Clock) {}

  /** Returns whoever is still at work under that key: superseded, or just being settled, since two can't own it. */
  add(execution: OwnedExecution): OwnedExecution | undefined {
    if (!execution.keyed) {
      this.#others.add(execution);
      return undefined;
    }
    const { id } = execution.identity;
    const earlier = this.#byKey.get(id);
    if (earlier !== undefined) this.#others.add(earlier);
    this.#byKey.set(id, execution);
    return earlier;
  }

  remove(execution: OwnedExecution): void {
    const { id } = execution.identity;
    if (this.#byKey.get(id) === execution) this.#byKey.delete(id);
    else this.#others.delete(execution);
    this.#tellIfIdle();
  }

  has(id: string): boolean {
    return this.#byKey.has(id);
  }

  /** Whoever is at work under that key, as long as it is certain without asking that nobody else can be, and that it goes on. */
  atWork(id: string): OwnedExecution | undefined {
    const execution = this.#byKey.get(id);
    return execution?.isOwner(this.clock.now()) ? execution : undefined;
  }

  /** Whether that owner of the key is at work right here. */
  isOwner(id: string, owner: string): boolean {
    return this.#byKey.get(id)?.ownership.owner === owner;
  }

  /** A claim is under way from here on, until `hasBegun`. */
  begins(): void {
    this.#beginning += 1;
  }

  /** One of them is answered, whatever has come of it. */
  hasBegun(): void {
    this.#beginning -= 1;
    this.#tellIfIdle();
  }

  /** Resolves when nothing is under way any more, or after `withinMs`. */
  async idle(withinMs: number): Promise<void> {
    if (this.#isIdle) return;
    await new Promise<void>((resolve) => {
      const cancel = this.clock.after(withinMs, resolve);
      this.#whenIdle = () => {
        cancel();
        resolve();
      };
    });
  }

  async callOff(): Promise<void> {
    await Promise.all([...this.#byKey.all(), ...this.#others].map((execution) => execution.callOff()));
  }

  get #isIdle(): boolean {
    return this.#byKey.size === 0 && this.#others.size === 0 && this.#beginning === 0;
  }

  #tellIfIdle(): void {
    if (this.#isIdle) this.#whenIdle?.();
  }
}
