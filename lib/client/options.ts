/** How a client behaves, written loosely and resolved once. */
import { memoryKeyStore } from './key-store.js';
import type { KeyStore } from './key-store.js';
import { randomKey } from './random-key.js';

/** Time, for tests that want to make it. */
export interface ClientClock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Runs `task` once after `delayMs`. The returned function cancels it. */
  after(delayMs: number, task: () => void): () => void;
}

export interface RetryEvent {
  /** The one that failed; the first is 1. */
  readonly attempt: number;
  /** How long is waited before the next one. */
  readonly delayMs: number;
  /** No connection, no answer in time, the first request still runs (409), or a status that is worth a retry. */
  readonly reason: 'network' | 'timeout' | 'in-use' | 'status';
  readonly status?: number;
  /** What `fetch` threw. */
  readonly cause?: unknown;
  readonly key?: string;
}

export interface ReplayEvent {
  readonly key: string;
  /** The one that is returned: look at its head, and leave its body to the caller (or `clone()` it). */
  readonly response: Response;
}

export interface IdempotentFetchOptions {
  /** The header that carries the key. Default: `Idempotency-Key`. */
  readonly header?: string;
  /** Where the keys of named calls (`intent`) are kept. Default: in memory. */
  readonly keyStore?: KeyStore;
  /** Makes a key. Default: a random UUID. */
  readonly newKey?: () => string;
  /** How often a request is sent at most, the first time included. Default: 5. */
  readonly attempts?: number;
  /** The longest pause after the first attempt; it doubles with each one. Default: 250. */
  readonly baseDelayMs?: number;
  /** What the doubling stops at. Default: 20 000. */
  readonly maxDelayMs?: number;
  /** How long one attempt may take, with the answer's body where it is waited for. `Infinity` for no limit. Default: 30 000. */
  readonly attemptTimeoutMs?: number;
  /** How long a call may take with all its attempts and pauses. `Infinity` for no limit. Default: 120 000. */
  readonly deadlineMs?: number;
  /** Before each pause. What a hook returns or throws makes no difference to the call. */
  readonly onRetry?: (event: RetryEvent) => unknown;
  /** When the answer says `Idempotent-Replayed: true`: an earlier attempt had been carried out. */
  readonly onReplay?: (event: ReplayEvent) => unknown;
  /** Default: the global `fetch`, as it is when a call is made. */
  readonly fetch?: (input: string | URL | Request, init?: RequestInit) => Promise<Response>;
  /** From 0 up to 1. Default: `Math.random`. */
  readonly random?: () => number;
  readonly clock?: ClientClock;
}

type Optional = 'fetch' | 'onRetry' | 'onReplay';
export type ResolvedOptions = Readonly<
  Required<Omit<IdempotentFetchOptions, Optional>> & { [Name in Optional]: IdempotentFetchOptions[Name] | undefined }
>;

const systemClock: ClientClock = {
  now: () => Date.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Beyond 2^31 - 1 timers run out at once, in browsers and in Node. Nobody waits for that long: `Infinity` is as good as this. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** Throws a `TypeError` that names the option and what it may be. */
export function resolveOptions({
  header = 'Idempotency-Key',
  keyStore = memoryKeyStore(),
  newKey = randomKey,
  attempts = 5,
  baseDelayMs = 250,
  maxDelayMs = 20_000,
  attemptTimeoutMs = 30_000,
  deadlineMs = 120_000,
  onRetry,
  onReplay,
  fetch,
  random = Math.random,
  clock = systemClock,
}: IdempotentFetchOptions): ResolvedOptions {
  new Headers([[header, '']]); // throws for what can't be the name of one
  if (!(attempts >= 1)) throw new TypeError('attempts must be 1 or more.');
  const times = { baseDelayMs, maxDelayMs, attemptTimeoutMs, deadlineMs };
  for (const [name, ms] of Object.entries(times)) {
    if (!(ms >= 0)) throw new TypeError(`${name} must be milliseconds from 0 to Infinity.`);
    times[name as keyof typeof times] = Math.min(ms, LONGEST_TIMER_MS);
  }
  return { header, keyStore, newKey, attempts, ...times, onRetry, onReplay, fetch, random, clock };
}
