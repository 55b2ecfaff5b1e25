/**
 * Everything this library refuses, each with a `code` for programs and a sentence for people that
 * names the way out. Errors know no framework; nest/ turns them into an `HttpException`.
 * Keys, scopes and bodies never enter a message.
 */
export type IdempotencyErrorCode =
  | 'IDEMPOTENCY_KEY_REQUIRED'
  | 'IDEMPOTENCY_KEY_INVALID'
  | 'IDEMPOTENCY_SCOPE_REQUIRED'
  | 'IDEMPOTENCY_REQUEST_UNREADABLE'
  | 'IDEMPOTENCY_STORE_UNAVAILABLE'
  | 'IDEMPOTENCY_KEY_REUSED'
  | 'IDEMPOTENCY_TOO_MANY_KEYS'
  | 'IDEMPOTENCY_KEY_IN_USE'
  | 'IDEMPOTENCY_DUPLICATE_REQUEST'
  | 'IDEMPOTENCY_OUTCOME_UNKNOWN'
  | 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE'
  | 'IDEMPOTENCY_RECORD_UNREADABLE'
  | 'IDEMPOTENCY_TRANSACTION_FAILED'
  | 'IDEMPOTENCY_TRANSACTION_MISUSED'
  | 'IDEMPOTENCY_EXECUTION_SUPERSEDED'
  | 'IDEMPOTENCY_STEP_INVALID'
  | 'IDEMPOTENCY_ANSWER_TOO_EARLY'
  | 'IDEMPOTENCY_ANSWER_TOO_LARGE'
  | 'IDEMPOTENCY_ANSWER_STANDS'
  | 'IDEMPOTENCY_SCHEMA_MISSING'
  | 'IDEMPOTENCY_SCHEMA_OUTDATED'
  | 'IDEMPOTENCY_INSERT_UNDECIDED'
  | 'PRECONDITION_REQUIRED'
  | 'PRECONDITION_INVALID'
  | 'PRECONDITION_FAILED';

const BRAND = Symbol.for('nestjs-idempotency-pg.error');

/**
 * The base of them all. Tell one by `isIdempotencyError` and its `code`: a process may have loaded
 * this library twice (as ESM and as CommonJS), and `instanceof` fails between the two.
 */
export abstract class IdempotencyError extends Error {
  abstract readonly code: IdempotencyErrorCode;
  /** The HTTP status it is answered with. */
  abstract readonly status: number;
  /** A few words that are the same for every error of this code (`title` of RFC 9457). */
  abstract readonly title: string;
  /** Whole seconds after which another try makes sense, where one does. */
  readonly retryAfter?: number;
  /** Whether it is what a handler's work came to, and kept as its answer, rather than a refusal of this moment. */
  readonly lasting: boolean = false;
  /** @internal */
  readonly [BRAND] = true;

  constructor(message: string, options?: { readonly cause?: unknown; readonly retryAfterMs?: number }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    if (options?.retryAfterMs !== undefined) this.retryAfter = Math.max(1, Math.ceil(options.retryAfterMs / 1000));
  }
}

/** Whether `error` is one of ours, whichever copy of the library made it. */
export function isIdempotencyError(error: unknown): error is IdempotencyError {
  return typeof error === 'object' && error !== null && BRAND in error;
}

export class KeyRequired extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_KEY_REQUIRED';
  readonly status = 400;
  readonly title = 'Idempotency key is required';
  /** @param advice what the client should do, as a sentence */
  constructor(
    readonly source: string,
    advice = 'Make one (a UUID will do), and send the same one with every retry.',
  ) {
    super(`This operation needs an idempotency key in ${source}. ${advice}`);
  }
}

export class KeyInvalid extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_KEY_INVALID';
  readonly status = 400;
  readonly title = 'Idempotency key is not valid';
  /** @param fault what is wrong with it, as the end of the sentence “The idempotency key …” */
  constructor(fault: string) {
    super(`The idempotency key ${fault}.`);
  }
}

export class ScopeRequired extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_SCOPE_REQUIRED';
  readonly status = 500;
  readonly title = 'Caller cannot be told';
  /** @param remedy what the developer should do; for the log, never for the client */
  constructor(readonly remedy: string) {
    super('The server cannot tell who is calling, so nothing was done.');
  }
}

/** The request can't be fingerprinted as it stands: parts or a body that nobody has parsed yet. */
export class RequestUnreadable extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_REQUEST_UNREADABLE';
  readonly status = 500;
  readonly title = 'Request cannot be compared';
  /** @param remedy what the developer should do; for the log, never for the client */
  constructor(readonly remedy: string) {
    super('The server cannot compare this request with a retry of it, so nothing was done.');
  }
}

export class StoreUnavailable extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_STORE_UNAVAILABLE';
  readonly status = 503;
  readonly title = 'Idempotency records are unavailable';
  /** Whether it is certain that nothing of what was asked has left for Postgres. */
  readonly unsent: boolean;
  constructor(options?: { readonly cause?: unknown; readonly retryAfterMs?: number; readonly unsent?: boolean }) {
    super(
      'Idempotency records cannot be reached right now, so nothing was done. Send the same request again in a moment, with its key if it has one.',
      {
        retryAfterMs: 1000,
        ...options,
      },
    );
    this.unsent = options?.unsent ?? false;
  }
}

export class KeyReused extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_KEY_REUSED';
  readonly status = 422;
  readonly title = 'Idempotency key was used for another request';
  constructor() {
    super('This idempotency key belongs to a request that was not the same as this one. Use a new key for a new request.');
  }
}

/** A new key of a caller who has as many as the route allows. Keys that exist are not concerned. */
export class TooManyKeys extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_TOO_MANY_KEYS';
  readonly status = 429;
  readonly title = 'Too many idempotency keys';
  /** @param retryAfterMs after which one of them ends */
  constructor(retryAfterMs: number) {
    super(
      'There are as many idempotency keys as are kept at once for one caller, so nothing was done. Try again later with the same key.',
      {
        retryAfterMs,
      },
    );
  }
}

export class KeyInUse extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_KEY_IN_USE';
  readonly status = 409;
  readonly title = 'A request with this idempotency key is in progress';
  constructor(retryAfterMs: number) {
    super('The first request with this idempotency key is still running. Try again in a moment with the same key.', { retryAfterMs });
  }
}

/** The same request of the same caller, within the window that it was given. */
export class DuplicateRequest extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_DUPLICATE_REQUEST';
  readonly status = 409;
  readonly title = 'The same request came a moment ago';
  /** @param retryAfterMs after which the same request is a new one */
  constructor(retryAfterMs: number) {
    super('The same request came a moment ago, and it is not carried out twice. Send it again later if it is meant a second time.', {
      retryAfterMs,
    });
  }
}

export class OutcomeUnknown extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_OUTCOME_UNKNOWN';
  readonly status = 409;
  readonly title = 'Outcome of the first request is unknown';
  constructor() {
    super(
      'The first request with this idempotency key was interrupted, and nobody knows how far it came. It must be looked into before it is tried again.',
    );
  }
}

export class ResultNotReplayable extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE';
  readonly status = 409;
  readonly title = 'The answer cannot be given again';
  constructor() {
    super('The request with this idempotency key was carried out, but its answer was not kept. It will not run again.');
  }
}

export class RecordUnreadable extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_RECORD_UNREADABLE';
  readonly status = 500;
  readonly title = 'Idempotency record cannot be read';
  /** What the developer should do, where that is known; for the log, never for the client. */
  readonly remedy: string | undefined;
  constructor(options?: { readonly cause?: unknown; readonly remedy?: string }) {
    super('There is a record for this idempotency key that cannot be read, so nothing was done.', options);
    this.remedy = options?.remedy;
  }
}

/** Postgres refused to commit; nothing of the transaction is left, and the key is free (or open). */
export class TransactionFailed extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_TRANSACTION_FAILED';
  readonly status: 500 | 503;
  readonly title = 'Transaction failed';
  /** @param transient a serialization failure or a deadlock, which another try may not meet */
  constructor(transient: boolean, options?: { readonly cause?: unknown }) {
    super(
      transient
        ? 'The transaction met another one and was rolled back. Try again with the same key.'
        : 'The transaction could not be committed and was rolled back.',
      { ...options, ...(transient ? { retryAfterMs: 1000 } : {}) },
    );
    this.status = transient ? 503 : 500;
  }
}

/** Something was asked of a transaction that is over, or that would have ended it. */
export class TransactionMisused extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_TRANSACTION_MISUSED';
  readonly status = 500;
  readonly title = 'Transaction was misused';
}

/** Thrown into a handler whose lease was lost: whatever it still does is refused. */
export class ExecutionSuperseded extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_EXECUTION_SUPERSEDED';
  readonly status = 409;
  readonly title = 'Execution was superseded';
  constructor() {
    super('Another execution owns this idempotency key by now, so this one cannot record anything any more.');
  }
}

/** A step that can't be told from another one, or whose result can't be recorded. */
export class StepInvalid extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_STEP_INVALID';
  readonly status = 500;
  readonly title = 'Step is not valid';
}

export class AnswerTooEarly extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_ANSWER_TOO_EARLY';
  readonly status = 500;
  readonly title = 'Answer came before the end of its handler';
  constructor() {
    super(
      'This atomic operation wrote its answer and then went on, perhaps waiting for that answer to be sent, so it was rolled back. Let the handler end first.',
    );
  }
}

export class AnswerTooLarge extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_ANSWER_TOO_LARGE';
  readonly status = 500;
  readonly title = 'Answer is too large';
  constructor() {
    super(
      'The answer of this atomic operation is too large or endless, so it was rolled back. Raise maxBodyBytes, or take the operation out of atomic mode.',
    );
  }
}

/** A stored answer is never replaced, by hand neither. */
export class AnswerStands extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_ANSWER_STANDS';
  readonly status = 409;
  readonly title = 'There is an answer already';
  constructor() {
    super('This idempotency key has an answer, which is not replaced. Forget the record first if it must go.');
  }
}

export class SchemaMissing extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_SCHEMA_MISSING';
  readonly status = 503;
  readonly title = 'Idempotency tables are missing';
  constructor(table: string, options?: { readonly cause?: unknown }) {
    super(
      `There is no table ${table}. Add idempotencyMigrations from 'nestjs-idempotency-pg/migrations' to the DataSource and run ` +
        `"npx typeorm migration:run -d <your data source>", or run "npx nestjs-idempotency-pg migrate", or apply the .sql files in node_modules/nestjs-idempotency-pg/migrations/sql with psql.`,
      options,
    );
  }
}

export class SchemaOutdated extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_SCHEMA_OUTDATED';
  readonly status = 503;
  readonly title = 'Idempotency tables are outdated';
  constructor(table: string, options?: { readonly cause?: unknown }) {
    super(
      `The table ${table} does not fit this version of nestjs-idempotency-pg. Run its newer migrations: ` +
        `"npx typeorm migration:run -d <your data source>" with idempotencyMigrations from 'nestjs-idempotency-pg/migrations', "npx nestjs-idempotency-pg migrate", or the .sql files in the package.`,
      options,
    );
  }
}

/** A row stands in the way of an insert, and still can't be seen when it is looked for. */
export class InsertUndecided extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_INSERT_UNDECIDED';
  readonly status = 503;
  readonly title = 'Insert was not decided';
  constructor() {
    super(
      'A row stood in the way of this one each time, and was gone when it was looked for. Try again; if that never ends, row-level security or a trigger keeps it from being found.',
      { retryAfterMs: 1000 },
    );
  }
}

/** RFC 6585, section 3. */
export class PreconditionRequired extends IdempotencyError {
  readonly code = 'PRECONDITION_REQUIRED';
  readonly status = 428;
  readonly title = 'If-Match is required';
  constructor() {
    super(
      'This operation needs an If-Match header with the ETag of what it is to change, so that nobody overwrites what they have not seen. Read it first.',
    );
  }
}

export class PreconditionInvalid extends IdempotencyError {
  readonly code = 'PRECONDITION_INVALID';
  readonly status = 400;
  readonly title = 'If-Match is not valid';
  constructor() {
    super('The If-Match header must be * or a list of entity tags in double quotes, such as "3". Send the ETag as it came.');
  }
}

/** RFC 9110, section 15.5.13. */
export class PreconditionFailed extends IdempotencyError {
  readonly code = 'PRECONDITION_FAILED';
  readonly status = 412;
  readonly title = 'Precondition failed';
  override readonly lasting = true;
  constructor() {
    super(
      'What this request is to change is in another version than it was made for, or is not there any more. Read it again, and decide anew.',
    );
  }
}

/** A recipe was called in a way that can't be meant. It is for the developer: clients get a 500 of their framework, and the log says what to do. */
export class RecipeMisused extends Error {
  readonly code = 'IDEMPOTENCY_RECIPE_MISUSED';

  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Keys can't be counted without reading the whole table. */
export class LiveKeysIndexMissing extends IdempotencyError {
  readonly code = 'IDEMPOTENCY_SCHEMA_OUTDATED';
  readonly status = 503;
  readonly title = 'Idempotency tables are outdated';
  constructor(table: string) {
    super(
      `The option maxLiveKeys needs an index on ${table} that begins with scope, and there is no valid one. Take ` +
        `idempotencyMigrationsFor({ schema, maxLiveKeys: true }) from 'nestjs-idempotency-pg/migrations' in the place of idempotencyMigrations and run ` +
        `"npx typeorm migration:run -d <your data source>", or run "npx nestjs-idempotency-pg migrate --max-live-keys", or apply migrations/sql/optional_index_live_keys.up.sql of the package with psql.`,
    );
  }
}
