/** Words what happens as events. Digests are made only if somebody listens, and keys never leave in clear. */
import { createHash } from 'node:crypto';
import type { Clock } from '../contract/clock.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink, IdempotencyEvent, IdempotencyEventType } from '../contract/events.js';
import type { Identity } from '../contract/record.js';
import type { Ending } from './verdict.js';
import type { OwnedExecution } from './execution.js';

/** What an event is about. */
export interface Subject {
  readonly identity: Identity;
  readonly handler: string;
}

const TYPE_OF_ENDING = { keep: 'completed', seal: 'sealed', free: 'released' } as const satisfies Record<
  Ending['kind'],
  IdempotencyEventType
>;

export class Observer {
  constructor(
    private readonly events: EventSink,
    private readonly clock: Clock,
  ) {}

  claimed(execution: OwnedExecution, takenOver: boolean): void {
    this.#emit(takenOver ? 'taken-over' : 'claimed', execution, {
      attempt: execution.attempt,
      durationMs: this.clock.now() - execution.startedAt,
    });
  }

  settled(execution: OwnedExecution, ending: Ending): void {
    this.#emit(TYPE_OF_ENDING[ending.kind], execution, { attempt: execution.attempt, durationMs: this.clock.now() - execution.startedAt });
  }

  replayed(subject: Subject, startedAt: number): void {
    this.#emit('replayed', subject, { durationMs: this.clock.now() - startedAt });
  }

  rejected(subject: Subject, error: IdempotencyError): void {
    this.#emit('rejected', subject, { code: error.code });
  }

  leaseLost(execution: OwnedExecution): void {
    this.#emit('lock-lost', execution, { attempt: execution.attempt });
  }

  storeFailed(subject: Subject, cause: unknown): void {
    this.#emit('store-failed', subject, { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' }, cause);
  }

  /** No single execution's matter: the lease may outlive the outage. */
  renewalFailed(cause: unknown): void {
    if (this.events.wants('store-failed')) this.events.emit({ type: 'store-failed', code: 'IDEMPOTENCY_STORE_UNAVAILABLE' }, cause);
  }

  #emit(type: IdempotencyEventType, { identity, handler }: Subject, facts: Partial<IdempotencyEvent>, cause?: unknown): void {
    if (!this.events.wants(type)) return;
    const { operation, scope, key } = identity;
    this.events.emit({ type, handler, operation, scopeDigest: digest(scope), keyDigest: digest(key), ...facts }, cause);
  }
}

/** 64 bits tell keys apart in a log, and are too few to be taken for the key's identity. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
