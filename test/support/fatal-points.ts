/**
 * The points at which a process can be made to kill itself: before each statement it sends to
 * Postgres, once that has been sent, once it has been answered; before and after each watched call.
 * They are written down nowhere. A process that is let live tells which points it has passed, and
 * then others are made to die at each of them.
 */
import { writeSync } from 'node:fs';
import { Client } from 'pg';

type Callable = (this: unknown, ...args: unknown[]) => unknown;

export class FatalPoints {
  /** The points passed since it was armed, by name; the second of one name is `… (2)`. */
  readonly passed: string[] = [];
  private readonly times = new Map<string, number>();
  private armed = false;

  /** @param fatal the name of the point to die at */
  constructor(private readonly fatal: string | undefined) {}

  /** From now on points count. */
  arm(): void {
    this.armed = true;
  }

  pass(name: string): void {
    if (!this.armed) return;
    const times = (this.times.get(name) ?? 0) + 1;
    this.times.set(name, times);
    const point = times === 1 ? name : `${name} (${times})`;
    this.passed.push(point);
    if (point !== this.fatal) return;
    writeSync(1, `killed at "${point}"\n`);
    process.kill(process.pid, 'SIGKILL'); // and not even the caller of this comes any further
  }

  /** Every statement of every connection, whoever sends it. */
  watchStatements(): void {
    const { prototype } = Client as unknown as { prototype: { query: Callable } };
    const { query } = prototype;
    const pass = (name: string): void => this.pass(name);
    prototype.query = function (...args) {
      const name = nameOf(args[0]);
      const answered = (): void => pass(`${name}, answered`);
      const callback = args.findLastIndex((arg) => typeof arg === 'function');
      if (callback !== -1) args[callback] = before(answered, args[callback] as Callable);
      if (isTrip(args[0])) args[0].callback = before(answered, args[0].callback);
      pass(`${name}, not sent`);
      const result = query.apply(this, args);
      setImmediate(() => pass(`${name}, sent`)); // it has left this process by then, and Postgres may be anywhere
      return callback === -1 && result instanceof Promise ? result.finally(answered) : result;
    };
  }

  /** Calls of methods that return promises, so that their ends are what somebody awaits. */
  watchCalls(owner: { readonly name: string; readonly prototype: object }, ...methods: string[]): void {
    const prototype = owner.prototype as Record<string, Callable>;
    for (const method of methods) {
      const original = prototype[method];
      if (original === undefined) throw new Error(`${owner.name} has no method ${method} any more. Watch what it has.`);
      const pass = (name: string): void => this.pass(name);
      prototype[method] = async function (...args) {
        pass(`${owner.name}.${method}, not called`);
        const result = await original.apply(this, args);
        pass(`${owner.name}.${method}, done`);
        return result;
      };
    }
  }
}

function before(first: () => void, then: Callable): Callable {
  return function (...args) {
    first();
    return then.apply(this, args);
  };
}

/** Several statements in one: it submits itself, and hears of its answer by a callback. */
interface Trip {
  readonly names: readonly string[];
  callback: Callable;
}

function isTrip(query: unknown): query is Trip {
  return typeof query === 'object' && query !== null && 'names' in query;
}

function nameOf(query: unknown): string {
  if (isTrip(query)) return query.names.join(' + ');
  const { name, text } = typeof query === 'string' ? { name: undefined, text: query } : (query as { name?: string; text?: string });
  const words = (text ?? 'a query').replace(/[\s"]+/g, ' ').trim();
  return name ?? words.slice(0, 40);
}
