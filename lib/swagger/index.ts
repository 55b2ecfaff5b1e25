/**
 * The public name of what documents the decorators with `@nestjs/swagger`.
 *
 * @module nestjs-idempotency-pg/swagger
 */
export { documentIdempotency } from './document-idempotency.js';
