/** What a handler may know and use of the execution it is part of. */
import type { EntityManager } from 'typeorm';
import type { TransactionClient } from './transaction.js';

/** What a step's work is handed. */
export interface StepCall {
  /** The key under which another system knows this call: `keyFor(name)`, the same in every attempt. */
  readonly key: string;
}

export interface IdempotentExecution {
  /** The client's key; `undefined` on a route that does not require one, when none came, and with `@Deduplicate()`. */
  readonly key: string | undefined;
  /** Whose key it is, as `IdempotencyService.find` takes it; `''` without a key. */
  readonly scope: string;
  /** 1 for the first execution, 2 and more when an interrupted one was taken over. */
  readonly attempt: number;
  /** Aborted when the lease is lost: somebody else owns the key now, and this answer will be refused. */
  readonly signal: AbortSignal;
  /**
   * The `EntityManager` of the atomic transaction. It throws once that has ended, within a step's
   * work, and outside atomic mode.
   */
  readonly manager: EntityManager;
  /** The same for plain `pg`: `client.query(text, values)`, or `client.query({ name, text, values })` for a statement that stays prepared. */
  readonly client: TransactionClient;
  /**
   * A key for a call to another system, such as a payment provider's own idempotency key: always the
   * same for the same key, scope and name, in every attempt and process; 64 characters at most, safe
   * in URLs and headers. Without a key it is random; with `@Deduplicate()` all attempts have the same,
   * and the same request after its window another one.
   *
   * @param name which call it is, such as `'charge'`
   */
  keyFor(name: string): string;
  /**
   * Runs a foreign call until one result is recorded, never after. The result is durable before this
   * resolves and survives a rollback; an error is not recorded. What it resolves to is the result's
   * JSON read back, the first time too.
   *
   * @param name of the step, used once in an execution
   * @throws StepInvalid for a name used twice or a result that is no JSON, ExecutionSuperseded, StoreUnavailable
   */
  step<T>(name: string, work: (call: StepCall) => T | Promise<T>): Promise<T>;
  /**
   * A phase whose rows and result commit together, run once. In atomic mode it is a savepoint, and
   * commits or vanishes with the whole.
   *
   * @throws like `step`, and TransactionFailed
   */
  transaction<T>(name: string, work: (manager: EntityManager) => T | Promise<T>): Promise<T>;
}
