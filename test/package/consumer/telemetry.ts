/** Listens and stops: more can be seen from outside only with an SDK. */
import { metrics } from '@opentelemetry/api';
import { observeIdempotency, type TelemetryOptions } from 'nestjs-idempotency-pg/telemetry';

const options: TelemetryOptions = { meterProvider: metrics.getMeterProvider(), digests: true };
const stop = observeIdempotency(options);
stop();
console.log(JSON.stringify({ stops: typeof stop }));
