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
  /** Of an execution. A request at the door has none. */
  readonly attempt?: number;
}

const TYPE_OF_ENDING = { keep: 'completed', seal: 'sealed', free: 'released' } as const satisfies Record<
  Ending['kind'],
  IdempotencyEventType
>;

export class Observer {
  /** Since when requests at the door wait for somebody else's answer. */
  readonly #waitingSince = new WeakMap<Subject, number>();

  constructor(
    private readonly events: EventSink,
    private readonly clock: Clock,
  ) {}

  waits(subject: Subject): void {
    this.#waitingSince.set(subject, this.clock.now());
  }

  /** @param subject the request that became an execution */
  claimed(execution: OwnedExecution, takenOver: boolean, subject: Subject): void {
    execution.claimedAt = this.clock.now();
    const type = takenOver ? 'taken-over' : 'claimed';
    if (!this.events.wants(type)) return;
    this.#emit(type, execution, {
      durationMs: execution.claimedAt - execution.startedAt,
      ...this.#waited(subject, execution.startedAt),
    });
  }

  settling(execution: OwnedExecution): void {
    execution.settlingAt = this.clock.now();
  }

  settled(execution: OwnedExecution, ending: Ending): void {
    if (!this.events.wants(TYPE_OF_ENDING[ending.kind])) return;
    const { startedAt, claimedAt, settlingAt } = execution;
    const now = this.clock.now();
    this.#emit(TYPE_OF_ENDING[ending.kind], execution, {
      durationMs: now - startedAt,
      handlerMs: settlingAt - claimedAt,
      completionMs: now - settlingAt,
    });
  }

  replayed(subject: Subject, startedAt: number): void {
    if (!this.events.wants('replayed')) return;
    const now = this.clock.now();
    this.#emit('replayed', subject, { durationMs: now - startedAt, ...this.#waited(subject, now) });
  }

  rejected(subject: Subject, error: IdempotencyError): void {
    if (!this.events.wants('rejected')) return;
    this.#emit('rejected', subject, { code: error.code, ...this.#waited(subject, this.clock.now()) });
  }

  leaseLost(execution: OwnedExecution): void {
    if (this.events.wants('lock-lost')) this.#emit('lock-lost', execution, {});
  }

  storeFailed(subject: Subject, cause: unknown): void {
    if (this.events.wants('store-failed')) this.#emit('store-failed', subject, { code: 'IDEMPOTENCY_STORE_UNAVAILABLE' }, cause);
  }

  /** No single execution's matter: the lease may outlive the outage. */
  renewalFailed(cause: unknown): void {
    if (this.events.wants('store-failed')) this.events.emit({ type: 'store-failed', code: 'IDEMPOTENCY_STORE_UNAVAILABLE' }, cause);
  }

  #waited(subject: Subject, until: number): Pick<IdempotencyEvent, 'waitedMs'> {
    const since = this.#waitingSince.get(subject);
    return since === undefined ? {} : { waitedMs: until - since };
  }

  #emit(type: IdempotencyEventType, subject: Subject, facts: Partial<IdempotencyEvent>, cause?: unknown): void {
    const { identity, handler, attempt } = subject;
    const { operation, scope, key } = identity;
    const whose = { handler, operation, scopeDigest: digest(scope), keyDigest: digest(key) };
    this.events.emit({ type, ...whose, ...(attempt === undefined ? {} : { attempt }), ...facts }, cause);
  }
}

/** 64 bits tell keys apart in a log, and are too few to be taken for the key's identity. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
