/**
 * Tells the span around a request what became of it. It makes no span of its own: the request has
 * one, and the statements beneath have theirs from the instrumentation of `pg`.
 */
import { trace } from '@opentelemetry/api';
import type { Attributes } from '@opentelemetry/api';
import type { IdempotencyEvent, IdempotencyEventType } from '../contract/events.js';

/** What the client gets to know, in the end. An execution that was superseded is answered a second time. */
const OUTCOMES: ReadonlySet<IdempotencyEventType> = new Set(['claimed', 'taken-over', 'replayed', 'rejected'] as const);

/** Told from a timer that is everybody's: the span that is active there is some other request's. */
const NOBODYS: ReadonlySet<IdempotencyEventType> = new Set(['lock-lost', 'reaped'] as const);

export function tellActiveSpan(event: IdempotencyEvent, digests: boolean): void {
  const { type, handler, attempt, code, waitedMs } = event;
  if (NOBODYS.has(type) || handler === undefined) return;
  const span = trace.getActiveSpan();
  if (span?.isRecording() !== true) return;
  const told: Attributes = { 'idempotency.handler': handler };
  if (attempt !== undefined) told['idempotency.attempt'] = attempt;
  if (OUTCOMES.has(type)) told['idempotency.outcome'] = type;
  if (digests) Object.assign(told, digestsOf(event));
  span.setAttributes(told);
  span.addEvent(`idempotency.${type}`, {
    ...(code === undefined ? {} : { 'error.type': code }),
    ...(waitedMs === undefined ? {} : { 'idempotency.waited': waitedMs / 1000 }),
  });
}

/** A request that is refused before its key is read has none. */
function digestsOf({ scopeDigest, keyDigest }: IdempotencyEvent): Attributes {
  return {
    ...(scopeDigest === undefined ? {} : { 'idempotency.scope.digest': scopeDigest }),
    ...(keyDigest === undefined ? {} : { 'idempotency.key.digest': keyDigest }),
  };
}
