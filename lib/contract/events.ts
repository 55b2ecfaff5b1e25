/**
 * What can be observed. The engine emits these; who listens is not its business. Keys and scopes
 * appear as digests only, bodies never.
 */
export const IDEMPOTENCY_EVENT_TYPES = [
  /** A request became the owner of a free key. */
  'claimed',
  /** A request became the owner of a key whose last owner was lost (instead of `claimed`). */
  'taken-over',
  /** The answer is in the table. */
  'completed',
  /** The execution is over and its answer can't be replayed. */
  'sealed',
  /** The outcome was not one to keep; the key is free. */
  'released',
  /** A stored answer was given again. */
  'replayed',
  /** The module answered for itself, 400 to 503; see `code`. */
  'rejected',
  /** An owner learnt that it has been superseded. */
  'lock-lost',
  /** Postgres stayed away too long: at a claim (nothing ran) or at a settlement (the key is lost). */
  'store-failed',
  /** Expired records were removed; see `removed`. */
  'reaped',
] as const;

export type IdempotencyEventType = (typeof IDEMPOTENCY_EVENT_TYPES)[number];

export interface IdempotencyEvent {
  readonly type: IdempotencyEventType;
  /** `Controller.method`, where a handler is concerned. */
  readonly handler?: string;
  readonly operation?: string;
  /** Hex digest of the scope: equal for equal scopes, and not to be turned back. */
  readonly scopeDigest?: string;
  readonly keyDigest?: string;
  /** Which execution of its key it is about. With `replayed`, `rejected` and `store-failed`: only if it had begun. */
  readonly attempt?: number;
  /**
   * With `claimed` and `taken-over`: what the claim took. With `completed`, `sealed`, `released` and
   * `replayed`: all the time since the request came to the store. With `reaped`: what reaping took.
   */
  readonly durationMs?: number;
  /** With `completed`, `sealed` and `released`: from the claim to the answer; the handler, mostly. */
  readonly handlerMs?: number;
  /** With the same: from the answer until its record was safe. */
  readonly completionMs?: number;
  /** With `claimed`, `taken-over`, `replayed` and `rejected`: how long it waited for another execution's answer, if it did. */
  readonly waitedMs?: number;
  /** The error's code, with `rejected` and `store-failed`. */
  readonly code?: string;
  /** How many records, with `reaped`. */
  readonly removed?: number;
}

/** Where events go. A sink never throws into the engine. */
export interface EventSink {
  /** Whether anybody would see an event of this type: digests are not made for nobody. */
  wants(type: IdempotencyEventType): boolean;
  /** @param cause the error behind it, for a log; not part of the event */
  emit(event: IdempotencyEvent, cause?: unknown): void;
}
