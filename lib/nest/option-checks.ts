/**
 * What every option is checked for, and what to do about a fault: one decorated class for a route's
 * options, one for the module's, one for the reaper's. The compiler sees to it that none is
 * forgotten. A class field exists from the start, even without a value (ES2022), so the fields are
 * the list of names as well.
 */
import { IsBoolean, IsDefined, IsIn, IsInt, IsOptional, Max, Min, ValidateBy, ValidateIf, ValidateNested } from 'class-validator';
import type { ValidationOptions } from 'class-validator';
import { MAX_KEY_CHARACTERS } from '../engine/key.js';
import { parseDuration } from './duration.js';
import { shown } from './faults.js';
import { faultInHeaderNames, faultInReplayHeaders } from './header-names.js';
import type { DeduplicateOptions, IdempotencyModuleOptions, IdempotentOptions, ReaperOptions } from './options.js';
import {
  faultInAtomic,
  faultInDataSource,
  faultInEncryption,
  faultInKeyFormat,
  faultInKeyFrom,
  faultInName,
  faultInPool,
  faultInSchema,
  faultInScope,
  faultInSecret,
  faultInStoreIf,
  faultUnlessFunction,
} from './option-faults.js';

/**
 * A larger answer would be an odd use of a table: a row is read and written whole, and Postgres
 * refuses a message of 1 GiB.
 */
const MOST_BODY_BYTES = 512 * 1024 * 1024;

/** As many as an unconfigured Postgres has for everybody. More wouldn't make it faster. */
const MOST_CONNECTIONS = 100;

/** One statement over more rows holds their locks, and a snapshot that vacuum waits for, longer than it saves. */
const MOST_ROWS_AT_ONCE = 100_000;

/** They are counted for every new key: a thousand in about a millisecond, thirty thousand in some forty. */
const MOST_LIVE_KEYS = 100_000;

/** Far more than a process of Node can hold open. */
const MOST_WAITERS = 1_000_000;

/** Longer waits than a day are no waits, and Node's timers end at 24 days. */
const A_DAY = '1d';

type AllOf<Options> = { [Name in keyof Required<Options>]: unknown };

export class RouteOptionChecks implements AllOf<IdempotentOptions> {
  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write required: true to refuse requests without a key.'))
  required: unknown;

  @IsOptional()
  @Satisfies(faultInScope, 'Give a function of the request that returns what identifies the caller, or false for one space shared by all.')
  scope: unknown;

  @IsOptional()
  @Satisfies(faultInName, `Give the key space a name of 1 to ${MAX_KEY_CHARACTERS} printable characters, or leave it out.`)
  operation: unknown;

  @IsOptional()
  @Satisfies(
    faultInKeyFrom,
    "Give one of { header: 'Idempotency-Key' }, { param: 'id' }, { body: 'event.id' } or a function of the ExecutionContext.",
  )
  keyFrom: unknown;

  @IsOptional()
  @Satisfies(faultInKeyFormat, "Give 'any', 'uuid', a RegExp, or a function that returns true for an acceptable key.")
  keyFormat: unknown;

  @IsOptional()
  @Satisfies(faultUnlessFunction, 'Give a function of the request that returns what a retry must repeat.')
  fingerprint: unknown;

  @IsOptional()
  @IsDuration('1s', '3650d', 'It is how long an answer can be had again.')
  ttl: unknown;

  @IsOptional()
  @IsDuration('1s', A_DAY, 'A lease is renewed every third of it, and after a crash its key waits for the whole of it.')
  lockTtl: unknown;

  @IsOptional()
  @IsDuration('1s', A_DAY, 'Retry-After has whole seconds.')
  retryAfter: unknown;

  @IsOptional()
  @IsIn(['rerun', 'reject'], saying(isNot("'rerun' or 'reject'"), 'Write one of the two.'))
  onLostExecution: unknown;

  @IsOptional()
  @IsIn(['reject', 'wait'], saying(isNot("'reject' or 'wait'"), 'Write one of the two.'))
  onDuplicate: unknown;

  @IsOptional()
  @IsDuration('1ms', '10m', 'A client that waits longer has given up.')
  waitTimeout: unknown;

  @IsOptional()
  @Satisfies(
    faultInAtomic,
    "Write true, or { isolation: 'SERIALIZABLE', retries: 3 } with isolation 'READ COMMITTED', 'REPEATABLE READ' or 'SERIALIZABLE' and retries from 0 to 10.",
  )
  atomic: unknown;

  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write durableClaim: false only where a crash of Postgres may forget a claim.'))
  durableClaim: unknown;

  @IsOptional()
  @Satisfies(faultInStoreIf, "Give 'all', or a function of status and error that returns true for an outcome to keep.")
  storeIf: unknown;

  @IsOptional()
  @Max(
    MOST_BODY_BYTES,
    saying(
      (value) => `is ${shown(value)}, which is more than 512 MiB`,
      'An answer is held in memory and in one row; let larger ones pass.',
    ),
  )
  @Min(0, saying((value) => `is ${shown(value)}, which is negative`, 'Give a number of bytes, such as 1024 * 1024.'))
  @IsInt(saying(isNot('a whole number'), 'Give a number of bytes, such as 1024 * 1024.'))
  maxBodyBytes: unknown;

  @IsOptional()
  @Satisfies(faultUnlessFunction, 'Give a function that gets { status, headers, body } and returns what is to be stored of it.')
  redact: unknown;

  @IsOptional()
  @Max(
    MOST_LIVE_KEYS,
    saying(
      (value) => `is ${shown(value)}, which is more than ${MOST_LIVE_KEYS}`,
      'They are counted for every new key. Give a smaller number.',
    ),
  )
  @Min(1, saying((value) => `is ${shown(value)}, which is less than 1`, 'Give a number of keys, such as 1000, or leave it out.'))
  @IsInt(saying(isNot('a whole number'), 'Give a number of keys, such as 1000.'))
  maxLiveKeys: unknown;

  @IsOptional()
  @IsDuration('100ms', '10m', 'Below that a healthy database looks dead, above it the client has gone.')
  storeTimeout: unknown;

  @IsOptional()
  @IsIn(['reject', 'bypass'], saying(isNot("'reject' or 'bypass'"), 'Write one of the two.'))
  onStoreFailure: unknown;
}

export class DeduplicateOptionChecks implements AllOf<DeduplicateOptions> {
  @IsDuration('100ms', A_DAY, 'Below that no second click is caught, and beyond a day the same request is more likely meant than repeated.')
  @IsDefined({
    message: 'is missing',
    context: { remedy: "Say for how long the same request counts as a duplicate, such as window: '10s'." },
  })
  window: unknown;

  @IsOptional()
  @IsIn(['reject', 'replay'], saying(isNot("'reject' or 'replay'"), 'Write one of the two.'))
  answer: unknown;

  @IsOptional()
  @Satisfies(faultInScope, 'Give a function of the request that returns what identifies the caller, or false if all callers count as one.')
  scope: unknown;

  @IsOptional()
  @Satisfies(faultUnlessFunction, 'Give a function of the request that returns what a duplicate must repeat.')
  fingerprint: unknown;

  @IsOptional()
  @IsIn(['reject', 'bypass'], saying(isNot("'reject' or 'bypass'"), 'Write one of the two.'))
  onStoreFailure: unknown;
}

export class ReaperOptionChecks implements AllOf<ReaperOptions> {
  @IsOptional()
  @IsDuration('1s', A_DAY, 'Expired records wait that long for their removal.')
  every: unknown;

  @IsOptional()
  @Max(
    MOST_ROWS_AT_ONCE,
    saying((value) => `is ${shown(value)}, which is more than ${MOST_ROWS_AT_ONCE}`, 'Remove them in smaller bites, more often.'),
  )
  @Min(1, saying((value) => `is ${shown(value)}, which is less than 1`, 'Give the number of rows to remove at a time, or reaper: false.'))
  @IsInt(saying(isNot('a whole number'), 'Give the number of rows to remove at a time.'))
  batch: unknown;
}

export class ModuleOptionChecks extends RouteOptionChecks implements AllOf<IdempotencyModuleOptions> {
  @IsOptional()
  @Satisfies(faultInDataSource, 'Give the TypeORM DataSource of a Postgres database, or a pg Pool as pool.')
  dataSource: unknown;

  @IsOptional()
  @Satisfies(faultInPool, "Give a Pool of the package 'pg', or a TypeORM DataSource as dataSource.")
  pool: unknown;

  @IsOptional()
  @Max(
    MOST_CONNECTIONS,
    saying(
      (value) => `is ${shown(value)}, which is more than ${MOST_CONNECTIONS}`,
      'A handful is enough: a statement takes about a millisecond.',
    ),
  )
  @Min(1, saying((value) => `is ${shown(value)}, which is less than 1`, 'Give the number of connections, such as 4.'))
  @IsInt(saying(isNot('a whole number'), 'Give the number of connections, such as 4.'))
  poolSize: unknown;

  @IsOptional()
  @Satisfies(faultInSchema, "Give the schema's plain name, such as 'public'; it is quoted for you.")
  schema: unknown;

  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write preparedStatements: false behind a transaction pooler that cannot keep them.'))
  preparedStatements: unknown;

  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write sharedStatements: false where the tables are sharded.'))
  sharedStatements: unknown;

  @IsOptional()
  @Satisfies(faultInHeaderNames, "Give a header's name, such as 'Idempotency-Key', or a list of accepted names.")
  header: unknown;

  @IsOptional()
  @Satisfies(faultInSecret, 'Give 32 random bytes or more, as a Buffer or a string, from where your other secrets are.')
  fingerprintSecret: unknown;

  @IsOptional()
  @Satisfies(
    faultInEncryption,
    'Write { keys: [key] } with 32 random bytes as a Buffer, or a text of at least 32 characters, from where your other secrets are. acceptPlain and writePlain belong to the time of switching it on or off.',
  )
  encryption: unknown;

  @IsOptional()
  @Satisfies(faultInReplayHeaders, 'List names of response headers that mean the same in every replay.')
  replayHeaders: unknown;

  @IsOptional()
  @Max(MOST_WAITERS, saying((value) => `is ${shown(value)}, which is more than ${MOST_WAITERS}`, 'Each of them holds a request open.'))
  @Min(1, saying((value) => `is ${shown(value)}, which is less than 1`, "Give a number of requests, or onDuplicate: 'reject'."))
  @IsInt(saying(isNot('a whole number'), 'Give a number of requests, such as 1000.'))
  maxWaiters: unknown;

  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write joinRepositories: true to let injected repositories join the atomic transaction.'))
  joinRepositories: unknown;

  @IsOptional()
  @IsDuration('0ms', A_DAY, 'Keep it below the time your orchestrator grants before it kills.')
  shutdownTimeout: unknown;

  @IsOptional()
  @IsIn(['problem', 'nest'], saying(isNot("'problem' or 'nest'"), 'Write one of the two.'))
  errorFormat: unknown;

  @IsOptional()
  @IsBoolean(saying(isNot('true or false'), 'Write warnUnprotected: true to be told of unprotected handlers at boot.'))
  warnUnprotected: unknown;

  @IsOptional()
  @ValidateIf(({ reaper }: ModuleOptionChecks) => reaper !== false)
  @ValidateNested(saying(isNot('an object or false'), "Write { every: '1m', batch: 1000 }, or false to run it elsewhere."))
  reaper: unknown;
}

/** A fault in our words, and the way out of it, in the form in which class-validator carries both. */
function saying(faultOf: (value: unknown) => string, remedy: string): ValidationOptions {
  return { message: ({ value }) => faultOf(value), context: { remedy } };
}

function isNot(wanted: string): (value: unknown) => string {
  return (value) => `is ${shown(value)}, which is not ${wanted}`;
}

/** A check of our own: `faultIn` says what is wrong with a value, or nothing. */
function Satisfies(faultIn: (value: unknown) => string | undefined, remedy: string): PropertyDecorator {
  return ValidateBy(
    { name: faultIn.name, validator: { validate: (value) => faultIn(value) === undefined } },
    saying((value) => faultIn(value) ?? '', remedy),
  );
}

function IsDuration(least: string, most: string, reason: string): PropertyDecorator {
  const [leastMs = 0, mostMs = 0] = [parseDuration(least), parseDuration(most)];
  const faultInDuration = (value: unknown): string | undefined => {
    const ms = parseDuration(value);
    if (ms === undefined) return `is ${shown(value)}, which is no duration`;
    return ms < leastMs || ms > mostMs ? `is ${shown(value)}, which is not between ${least} and ${most}` : undefined;
  };
  return Satisfies(
    faultInDuration,
    `Give milliseconds or a text such as '500ms', '45s', '1m', '48h' or '7d', from ${least} to ${most}. ${reason}`,
  );
}
