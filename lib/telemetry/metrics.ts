/**
 * Counts and times, by names as OpenTelemetry wants them: durations in seconds, and attributes of
 * which there are few. A key, a scope or a digest is never one: each would be a series of its own.
 */
import type { Attributes, Counter, Histogram, Meter, UpDownCounter } from '@opentelemetry/api';
import type { IdempotencyEvent, IdempotencyEventType } from '../contract/events.js';

/** One statement over a near network takes about a millisecond, and `storeTimeout` is five seconds unless set. */
const STATEMENT_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** Those of HTTP's own request duration, and on to a minute: a handler may take as long as its lease is renewed. */
const HANDLER_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60];

/** How an execution ended. The first event that says so counts: what follows is told of one that has ended. */
const END_OF_EXECUTION: Partial<Record<IdempotencyEventType, string>> = {
  completed: 'completed',
  sealed: 'sealed',
  released: 'released',
  'lock-lost': 'superseded',
  'store-failed': 'unrecorded',
  rejected: 'rejected',
};

export class IdempotencyMetrics {
  readonly #requests: Counter;
  readonly #executions: Counter;
  readonly #active: UpDownCounter;
  readonly #claims: Histogram;
  readonly #handlers: Histogram;
  readonly #completions: Histogram;
  readonly #waits: Histogram;
  readonly #storeFailures: Counter;
  readonly #reaped: Counter;
  /** What the gauge stands for, so that it goes down exactly as often as it went up. */
  readonly #atWork = new Map<string, Attributes>();

  constructor(meter: Meter) {
    const seconds = (name: string, description: string, buckets: number[]): Histogram =>
      meter.createHistogram(name, { description, unit: 's', advice: { explicitBucketBoundaries: buckets } });
    this.#requests = meter.createCounter('idempotency.requests', {
      description: 'Requests by what became of them: claimed, taken-over, replayed or rejected.',
      unit: '{request}',
    });
    this.#executions = meter.createCounter('idempotency.executions', {
      description: 'Executions by how they ended: completed, sealed, released, superseded, unrecorded or rejected.',
      unit: '{execution}',
    });
    this.#active = meter.createUpDownCounter('idempotency.active_executions', {
      description: 'Executions that own a key in this process right now.',
      unit: '{execution}',
    });
    this.#claims = seconds('idempotency.claim.duration', 'What it took to claim a key or to find its answer.', STATEMENT_BUCKETS);
    this.#handlers = seconds('idempotency.handler.duration', 'From the claim to the answer.', HANDLER_BUCKETS);
    this.#completions = seconds('idempotency.completion.duration', 'From the answer until its record was safe.', STATEMENT_BUCKETS);
    this.#waits = seconds('idempotency.wait.duration', "How long requests waited for another one's answer.", HANDLER_BUCKETS);
    this.#storeFailures = meter.createCounter('idempotency.store.failures', {
      description: 'How often Postgres stayed away too long: at a claim, at a completion or at a renewal of leases.',
      unit: '{failure}',
    });
    this.#reaped = meter.createCounter('idempotency.records.reaped', { description: 'Expired records removed.', unit: '{record}' });
  }

  note(event: IdempotencyEvent): void {
    if (event.type === 'reaped') return this.#reaped.add(event.removed ?? 0);
    if (event.type === 'store-failed') this.#storeFailures.add(1, { ...handlerOf(event), 'idempotency.phase': phaseOf(event) });
    if (event.type === 'claimed' || event.type === 'taken-over') {
      this.#answered(event);
      return this.#begun(event);
    }
    if (event.attempt !== undefined) return this.#ended(event);
    if (event.type === 'replayed' || event.type === 'rejected') this.#answered(event);
  }

  /** Nobody tells any more how those at work end. */
  close(): void {
    for (const about of this.#atWork.values()) this.#active.add(-1, about);
    this.#atWork.clear();
  }

  /** The request has its verdict. */
  #answered(event: IdempotencyEvent): void {
    const { type, code, durationMs, waitedMs } = event;
    const about = { ...handlerOf(event), 'idempotency.outcome': type };
    this.#requests.add(1, code === undefined ? about : { ...about, 'error.type': code });
    if (waitedMs !== undefined) this.#waits.record(waitedMs / 1000, about);
    const waitedOnly = type === 'replayed' && waitedMs !== undefined; // its time tells nothing of the store
    if (durationMs !== undefined && !waitedOnly) this.#claims.record(durationMs / 1000, about);
  }

  #begun(event: IdempotencyEvent): void {
    const about = handlerOf(event);
    const name = nameOf(event);
    if (this.#atWork.has(name)) return;
    this.#atWork.set(name, about);
    this.#active.add(1, about);
  }

  #ended(event: IdempotencyEvent): void {
    const end = END_OF_EXECUTION[event.type];
    const name = nameOf(event);
    const about = this.#atWork.get(name);
    if (end === undefined || about === undefined) return;
    this.#atWork.delete(name);
    this.#active.add(-1, about);
    const ended = { ...about, 'idempotency.outcome': end };
    this.#executions.add(1, event.type === 'rejected' ? { ...ended, 'error.type': event.code } : ended);
    if (event.handlerMs !== undefined) this.#handlers.record(event.handlerMs / 1000, ended);
    if (event.completionMs !== undefined) this.#completions.record(event.completionMs / 1000, ended);
  }
}

function handlerOf({ handler }: IdempotencyEvent): Attributes {
  return handler === undefined ? {} : { 'idempotency.handler': handler };
}

/** A renewal is for many executions at once, and so belongs to no handler. */
function phaseOf({ handler, attempt }: IdempotencyEvent): string {
  if (handler === undefined) return 'renewal';
  return attempt === undefined ? 'claim' : 'completion';
}

/** Which execution it is, within this process. */
function nameOf({ operation, scopeDigest, keyDigest, attempt }: IdempotencyEvent): string {
  return `${scopeDigest} ${keyDigest} ${attempt} ${operation}`;
}
