/**
 * The public names of `nestjs-idempotency-pg/client`. Nothing here knows Node or the rest of this library: it is for browsers too.
 *
 * @module nestjs-idempotency-pg/client
 */
export { idempotentFetch } from './idempotent-fetch.js';
export type { IdempotentFetch, IdempotentRequestInit } from './idempotent-fetch.js';
export type { ClientClock, IdempotentFetchOptions, ReplayEvent, RetryEvent } from './options.js';
export { localStorageKeyStore, memoryKeyStore } from './key-store.js';
export type { KeyStore } from './key-store.js';
export { IdempotentFetchError } from './errors.js';
export type { IdempotentFetchErrorCode } from './errors.js';
