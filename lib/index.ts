/**
 * The public names, one by one: being public is a decision.
 *
 * @module nestjs-idempotency-pg
 */
export { IdempotencyModule } from './nest/idempotency.module.js';
export { IdempotencyService } from './nest/idempotency.service.js';
export { IdempotencyEvents } from './nest/events.js';
export { Idempotent, SkipIdempotency } from './nest/idempotent.decorator.js';
export { Deduplicate } from './nest/deduplicate.decorator.js';
export { fromWebhook } from './nest/from-webhook.js';
export { VersionETag } from './nest/version-etag.decorator.js';
export { RequireIfMatch } from './nest/require-if-match.decorator.js';
export { ExpectedVersion } from './nest/expected-version.decorator.js';
export { updateVersioned } from './recipes/versioned-update.js';
export { insertOnce } from './recipes/insert-once.js';
export { compareAndSet } from './recipes/compare-and-set.js';
export { CurrentExecution } from './nest/current-execution.decorator.js';
export { IdempotencyException } from './nest/problem-exception.js';
export { IdempotencyOptionsError } from './nest/faults.js';
export type { Fault } from './nest/faults.js';
export type {
  AtomicOptions,
  DeduplicateOptions,
  Duration,
  EncryptionOptions,
  FingerprintFunction,
  IdempotencyModuleOptions,
  IdempotencyOptionsFactory,
  IdempotencyRequest,
  IdempotentOptions,
  KeyFrom,
  ReaperOptions,
  RedactFunction,
  RedactableAnswer,
  ScopeFunction,
} from './nest/options.js';
export type { IsolationLevel, TransactionClient, TransactionQuery } from './contract/transaction.js';
export type { RunOptions, RunResult, RunSettings } from './nest/runs.js';
export type { ManualAnswer, Resolution } from './nest/idempotency.service.js';
export type { VersionCondition } from './contract/version-condition.js';
export type { ColumnName, ColumnValues, RowCondition } from './recipes/columns.js';
export type { InsertOnceOptions, InsertedOnce } from './recipes/insert-once.js';
export type { VersionedUpdateOptions } from './recipes/versioned-update.js';
export type { Version } from './recipes/preconditions.js';
export type { KeyFormat } from './engine/key.js';
export type { StoreIf } from './engine/outcome-policy.js';
export type { IdempotentExecution, StepCall } from './contract/execution.js';
export type { IdempotencyEvent, IdempotencyEventType } from './contract/events.js';
export type { RecordRef, RecordState, RecordSummary, StoreStats } from './contract/record.js';
export {
  AnswerStands,
  AnswerTooEarly,
  AnswerTooLarge,
  DuplicateRequest,
  ExecutionSuperseded,
  IdempotencyError,
  InsertUndecided,
  KeyInUse,
  KeyInvalid,
  KeyRequired,
  KeyReused,
  OutcomeUnknown,
  PreconditionFailed,
  PreconditionInvalid,
  PreconditionRequired,
  RecipeMisused,
  RecordUnreadable,
  RequestUnreadable,
  ResultNotReplayable,
  SchemaMissing,
  SchemaOutdated,
  ScopeRequired,
  StepInvalid,
  StoreUnavailable,
  TooManyKeys,
  TransactionFailed,
  TransactionMisused,
  isIdempotencyError,
} from './contract/errors.js';
export type { IdempotencyErrorCode } from './contract/errors.js';
