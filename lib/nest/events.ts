/** Everything that can be observed, as an rxjs stream and as diagnostics channels; and the two events that are logged. */
import { channel } from 'node:diagnostics_channel';
import type { Channel } from 'node:diagnostics_channel';
import { Injectable, Logger } from '@nestjs/common';
import { Subject } from 'rxjs';
import type { Observable } from 'rxjs';
import { IDEMPOTENCY_EVENT_TYPES } from '../contract/events.js';
import type { EventSink, IdempotencyEvent, IdempotencyEventType } from '../contract/events.js';
import { reasonOf } from './reason.js';

/**
 * What the module does, as it happens. `events$` never errors and completes with the application;
 * the same events are published on `node:diagnostics_channel` as `nestjs-idempotency-pg:<type>`.
 */
@Injectable()
export class IdempotencyEvents implements EventSink {
  readonly events$: Observable<IdempotencyEvent>;
  readonly #subject = new Subject<IdempotencyEvent>();
  readonly #channels = channels();
  readonly #logger = new Logger('Idempotency');

  constructor() {
    this.events$ = this.#subject.asObservable();
  }

  /** @internal */
  wants(type: IdempotencyEventType): boolean {
    return this.#subject.observed || this.#channels[type].hasSubscribers || LOGGED.has(type);
  }

  /** @internal */
  emit(event: IdempotencyEvent, cause?: unknown): void {
    this.#log(event, cause);
    this.#channels[event.type].publish(event);
    this.#subject.next(event);
  }

  /** @internal */
  close(): void {
    this.#subject.complete();
  }

  #log(event: IdempotencyEvent, cause: unknown): void {
    if (!LOGGED.has(event.type)) return;
    const where = event.handler === undefined ? '' : ` (${event.handler}, key digest ${event.keyDigest})`;
    if (event.type === 'lock-lost') {
      this.#logger.warn(
        `An execution was superseded: its lease had run out and another one owns the key now. Its answer is refused.${where}`,
      );
    } else {
      this.#logger.error(`Postgres could not be reached in time for idempotency records.${where} ${reasonOf(cause)}`);
    }
  }
}

/** Nobody should need to subscribe to learn of these. */
const LOGGED: ReadonlySet<IdempotencyEventType> = new Set(['lock-lost', 'store-failed'] as const);

function channels(): Record<IdempotencyEventType, Channel> {
  const entries = IDEMPOTENCY_EVENT_TYPES.map((type) => [type, channel(`nestjs-idempotency-pg:${type}`)] as const);
  return Object.fromEntries(entries) as Record<IdempotencyEventType, Channel>;
}
