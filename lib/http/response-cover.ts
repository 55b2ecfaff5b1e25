/**
 * Stands in front of a response's own members and steps aside without a trace. What stood there
 * before, be it Node's or a middleware's, is what is called underneath.
 */
import type { ServerResponse } from 'node:http';

export type Method = (...args: never[]) => unknown;

interface Covered {
  readonly front: Method;
  readonly below: Method;
  /** Whether the response itself had it (a middleware's), or inherited it from Node's class. */
  readonly own: boolean;
}

export class ResponseCover {
  readonly #members: Record<string, unknown>;
  readonly #covered = new Map<string, Covered>();

  constructor(private readonly response: ServerResponse) {
    this.#members = response as unknown as Record<string, unknown>;
  }

  put(name: string, front: Method): void {
    const own = Object.hasOwn(this.response, name);
    this.#covered.set(name, { front, below: this.#members[name] as Method, own });
    this.#members[name] = front;
  }

  /** Calls what is underneath, whether the cover still stands or not. */
  below(name: string, args: readonly unknown[]): unknown {
    const covered = this.#covered.get(name);
    return Reflect.apply(covered ? covered.below : (this.#members[name] as Method), this.response, args);
  }

  /** Uncovers the named members; all of them, without a list. */
  lift(names: Iterable<string> = [...this.#covered.keys()].reverse()): void {
    for (const name of names) {
      const covered = this.#covered.get(name);
      // Somebody who has stepped in front of us since then calls us, and we pass the call on.
      if (covered === undefined || this.#members[name] !== covered.front) continue;
      if (covered.own) this.#members[name] = covered.below;
      else Reflect.deleteProperty(this.response, name);
    }
  }
}
