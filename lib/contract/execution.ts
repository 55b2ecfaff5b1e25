/** What a handler may know of the execution it is part of. */
export interface IdempotentExecution {
  /** The client's key; `undefined` on a route that does not require one, when none came. */
  readonly key: string | undefined;
  /** Whose key it is, as `IdempotencyService.find` takes it; `''` without a key. */
  readonly scope: string;
  /** 1 for the first execution, 2 and more when an interrupted one was taken over. */
  readonly attempt: number;
  /** Aborted when the lease is lost: somebody else owns the key now, and this answer will be refused. */
  readonly signal: AbortSignal;
  /**
   * A key for a call to another system, such as a payment provider's own idempotency key: always the
   * same for the same key, scope and name, in every attempt and process; 64 characters at most, safe
   * in URLs and headers. Without a key it is random.
   *
   * @param name which call it is, such as `'charge'`
   */
  keyFor(name: string): string;
}
