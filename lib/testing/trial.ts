/**
 * One request under observation: what its execution does is counted, and at one of these points it
 * may be ended as a crash of the process would end it. It knows when to end, and nothing of how
 * statements and records are reached.
 */
import type { Claim } from '../contract/record.js';

/** Thrown where a process that has crashed would not go on. */
export class SimulatedCrash extends Error {
  constructor() {
    super('expectIdempotent() has ended this execution, as a crash of its process would: nothing that it still does reaches Postgres.');
    this.name = 'SimulatedCrash';
  }
}

export class Trial {
  /** The request's own claim first, then those of `run()` within it. */
  readonly claims: Claim[] = [];
  /** Where it was ended, in words; `undefined` while it was not. */
  crashedAt: string | undefined;
  readonly ended: Promise<void>;
  #passed = 0;
  #statements = 0;
  #end!: () => void;

  /**
   * @param crashAt how many points it passes before it is ended; `undefined`: all of them
   * @param cut ends its connections
   */
  constructor(
    private readonly crashAt: number | undefined,
    private readonly cut: (trial: Trial) => void,
  ) {
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** The owner whose answer the request is about. */
  get claim(): Claim | undefined {
    return this.claims[0];
  }

  get isDead(): boolean {
    return this.crashedAt !== undefined;
  }

  /** @returns whether the execution goes on */
  statement(text: string): boolean {
    if (this.claim === undefined) return true; // a guard's or a pipe's: nothing is owned yet, and nothing can be lost
    if (!this.isDead) this.#statements += 1;
    return this.point(`before statement ${this.#statements} (${excerpt(text)})`);
  }

  /** @returns whether the execution goes on */
  point(words: string): boolean {
    if (this.isDead) return false;
    if (this.#passed === this.crashAt) {
      this.crashedAt = words;
      this.cut(this);
      return false;
    }
    this.#passed += 1;
    return true;
  }

  /** The module has heard the last of its owner. */
  end(): void {
    this.#end();
  }
}

const LONGEST_EXCERPT = 60;

function excerpt(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length <= LONGEST_EXCERPT ? line : `${line.slice(0, LONGEST_EXCERPT)}…`;
}
