/**
 * The names of `nestjs-idempotency-pg/testing`, one by one.
 *
 * @module nestjs-idempotency-pg/testing
 */
export { ManualClock } from './manual-clock.js';
export { InMemoryIdempotencyStore } from './in-memory-store.js';
export type { InMemoryStoreOptions } from './in-memory-store.js';
export { idempotencyStoreContract } from './store-contract.js';
export type { StoreContractCase, StoreContractOptions } from './store-contract.js';
export { IdempotencyTestingModule } from './idempotency-testing.module.js';
export type { IdempotencyTestingOptions, ProviderOverriding } from './idempotency-testing.module.js';
export { expectIdempotent } from './expect-idempotent.js';
export type { Effects, ExpectIdempotentOptions, IdempotentRequest } from './expect-idempotent.js';
export type { Clock } from '../contract/clock.js';
export type { ConnectionLimit, IdempotencyStore, Lease, StoreFindings, StoreNeeds } from '../contract/store.js';
export type {
  Claim,
  ClaimResult,
  FoundRecord,
  Identity,
  Ownership,
  RecordedStep,
  RecordState,
  RecordSummary,
  Released,
  Settled,
  StoreStats,
  TakeOverResult,
} from '../contract/record.js';
export type { Promptness } from '../contract/promptness.js';
export type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';
export type {
  CommitResult,
  IsolationLevel,
  KeepingWrite,
  LastWrite,
  RecordTransaction,
  TransactionClient,
  TransactionQuery,
  TransactionSettings,
} from '../contract/transaction.js';
