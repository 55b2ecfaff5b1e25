/** Handlers that stop where a test wants them to, and tests that wait for what they look at. */
import { setTimeout as pause } from 'node:timers/promises';

interface Cue {
  readonly reached: Promise<void>;
  readonly released: Promise<void>;
  reach(): void;
  release(): void;
  fail(error: Error): void;
}

export class Stage {
  readonly #cues = new Map<string, Cue>();

  /** For the handler: tells that it has come to `name`, and waits there until the test lets it go on. */
  async stopAt(name: string): Promise<void> {
    const cue = this.#cue(name);
    cue.reach();
    await cue.released;
  }

  /** For the test: resolves when somebody stands there. */
  reached(name: string): Promise<void> {
    return this.#cue(name).reached;
  }

  /** Lets go on whoever stands there, now or later. */
  open(name: string): void {
    this.#cue(name).release();
  }

  fail(name: string, error: Error): void {
    this.#cue(name).fail(error);
  }

  /** Lets everybody go on: a test that fails must not leave an application waiting for its handlers. */
  openAll(): void {
    for (const cue of this.#cues.values()) cue.release();
  }

  #cue(name: string): Cue {
    const found = this.#cues.get(name);
    if (found !== undefined) return found;
    let [reach, release, fail]: [() => void, () => void, (error: Error) => void] = [nothing, nothing, nothing];
    const reached = new Promise<void>((resolve) => (reach = resolve));
    const released = new Promise<void>((resolve, reject) => {
      release = resolve;
      fail = reject;
    });
    released.catch(nothing); // whoever stops there hears of it; nobody may
    const cue = { reached, released, reach, release, fail };
    this.#cues.set(name, cue);
    return cue;
  }
}

/** Looks again and again. What never comes true ends with the test's own time-out. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await pause(10);
}

function nothing(): void {
  // the executor of a promise replaces it at once
}
