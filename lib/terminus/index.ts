/**
 * The public names of the health check for `@nestjs/terminus`.
 *
 * @module nestjs-idempotency-pg/terminus
 */
export { IdempotencyHealthIndicator } from './idempotency.health-indicator.js';
export type { HealthOptions } from './idempotency.health-indicator.js';
