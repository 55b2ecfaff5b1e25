/**
 * What an application that is watched by OpenTelemetry imports. Nothing else of the library knows of it.
 *
 * @module nestjs-idempotency-pg/telemetry
 */
export { observeIdempotency } from './observe.js';
export type { TelemetryOptions } from './observe.js';
