/** The public names, one by one: being public is a decision. */
export { IdempotencyModule } from './nest/idempotency.module.js';
export { IdempotencyService } from './nest/idempotency.service.js';
export { IdempotencyEvents } from './nest/events.js';
export { Idempotent, SkipIdempotency } from './nest/idempotent.decorator.js';
export { CurrentExecution } from './nest/current-execution.decorator.js';
export { IdempotencyException } from './nest/problem-exception.js';
export { IdempotencyOptionsError } from './nest/faults.js';
export type { Fault } from './nest/faults.js';
export type {
  AtomicOptions,
  Duration,
  IdempotencyModuleOptions,
  IdempotencyOptionsFactory,
  IdempotencyRequest,
  IdempotentOptions,
  KeyFrom,
  ReaperOptions,
} from './nest/options.js';
export type { IsolationLevel, TransactionClient } from './contract/transaction.js';
export type { RunOptions, RunResult, RunSettings } from './nest/runs.js';
export type { ManualAnswer, Resolution } from './nest/idempotency.service.js';
export type { KeyFormat } from './engine/key.js';
export type { StoreIf } from './engine/outcome-policy.js';
export type { IdempotentExecution, StepCall } from './contract/execution.js';
export type { IdempotencyEvent, IdempotencyEventType } from './contract/events.js';
export type { RecordRef, RecordState, RecordSummary, StoreStats } from './contract/record.js';
export {
  AnswerStands,
  AnswerTooEarly,
  AnswerTooLarge,
  ExecutionSuperseded,
  IdempotencyError,
  KeyInUse,
  KeyInvalid,
  KeyRequired,
  KeyReused,
  OutcomeUnknown,
  RecordUnreadable,
  RequestUnreadable,
  ResultNotReplayable,
  SchemaMissing,
  SchemaOutdated,
  ScopeRequired,
  StepInvalid,
  StoreUnavailable,
  TransactionFailed,
  TransactionMisused,
  isIdempotencyError,
} from './contract/errors.js';
export type { IdempotencyErrorCode } from './contract/errors.js';
