import type { IsolationLevel } from './transaction.js';

export interface AtomicSettings {
  /** `undefined`: as the database has it. */
  readonly isolation: IsolationLevel | undefined;
  /** How often the whole handler is repeated after a serialization failure or a deadlock. */
  readonly retries: number;
}

/** For requests that carry no key, and are known again by what they say. */
export interface WindowSettings {
  /** What a repetition gets within the window: a refusal, for which no answer need be kept, or the first one's answer. */
  readonly answer: 'reject' | 'replay';
}

/** What a route has decided for its executions, resolved once at boot: nobody after that writes `?? default`. */
export interface ExecutionSettings {
  /** How long an answer is kept, from its completion; in a window, from the start of the execution. */
  readonly retentionMs: number;
  /** `undefined` where requests are known again by their key. */
  readonly window: WindowSettings | undefined;
  readonly leaseMs: number;
  /** The wait told to a request that comes while the first one is running. */
  readonly retryAfterMs: number;
  readonly onLostExecution: 'rerun' | 'reject';
  /** Whether the claim's commit waits for the disk. */
  readonly durableClaim: boolean;
  /** Handler and record in one transaction; `undefined` in plain mode. */
  readonly atomic: AtomicSettings | undefined;
  /** How long a request waits for the answer of the one that is running; 0: not at all, 409 at once. */
  readonly waitMs: number;
  /** Longest wait for Postgres at the claim, and again at the settlement. */
  readonly storeTimeoutMs: number;
  readonly onStoreFailure: 'reject' | 'bypass';
  /** A larger answer is not held in memory and not kept. */
  readonly maxBodyBytes: number;
  /** How many records of its scope may be live for a new key to be taken; `undefined`: any number. */
  readonly maxLiveKeys?: number | undefined;
  /** Whether an outcome of a handler that began is kept; any other one frees the key. */
  keeps(status: number, error?: unknown): boolean;
}
