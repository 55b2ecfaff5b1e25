/**
 * Listens to what the module says of itself and tells OpenTelemetry. It hears the same diagnostics
 * channels as anybody else: what is not said there can't be measured here, and an application that
 * doesn't ask for this pays nothing.
 */
import { channel } from 'node:diagnostics_channel';
import { metrics } from '@opentelemetry/api';
import type { MeterProvider } from '@opentelemetry/api';
import { IDEMPOTENCY_EVENT_TYPES } from '../contract/events.js';
import type { IdempotencyEvent } from '../contract/events.js';
import { IdempotencyMetrics } from './metrics.js';
import { tellActiveSpan } from './spans.js';

/** The name of the meter, by which views can be chosen. */
const METER = 'nestjs-idempotency-pg';

export interface TelemetryOptions {
  /** Whose meter counts. Default: the global provider's, as it is when this is called. */
  readonly meterProvider?: MeterProvider;
  /** Whether the span that is active around a request hears of it as well. Default: yes. */
  readonly spans?: boolean;
  /**
   * Whether spans carry the digests of scope and key, so that all requests with one key can be found.
   * Default: no. A digest can't be turned back, but whoever guesses a key can confirm the guess.
   */
  readonly digests?: boolean;
}

/**
 * Measures all applications of this process that use the module, until the returned function is
 * called. To be called once, after the OpenTelemetry SDK has started: a meter that is asked for
 * earlier counts for nobody.
 *
 * @returns ends it, and may be called again
 */
export function observeIdempotency({ meterProvider, spans = true, digests = false }: TelemetryOptions = {}): () => void {
  const measured = new IdempotencyMetrics((meterProvider ?? metrics.getMeterProvider()).getMeter(METER));
  const hear = (message: unknown): void => {
    const event = message as IdempotencyEvent;
    measured.note(event);
    if (spans) tellActiveSpan(event, digests);
  };
  const channels = IDEMPOTENCY_EVENT_TYPES.map((type) => channel(`nestjs-idempotency-pg:${type}`));
  for (const each of channels) each.subscribe(hear);
  return () => {
    for (const each of channels) each.unsubscribe(hear);
    measured.close();
  };
}
