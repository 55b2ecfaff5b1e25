/**
 * The options as users write them. What they are checked for is in option-checks.ts, and what the
 * module works with afterwards in resolve-options.ts.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import type { IsolationLevel } from '../contract/transaction.js';
import type { KeyFormat } from '../engine/key.js';
import type { StoreIf } from '../engine/outcome-policy.js';

/** Milliseconds, or a whole number with its unit: `'500ms'`, `'45s'`, `'1m'`, `'48h'`, `'7d'`. */
export type Duration = number | string;

/** What an Express and a Fastify request have in common. Functions may ask for more; see `FromRequest`. */
export interface IdempotencyRequest {
  readonly method?: string;
  readonly url?: string;
  readonly headers?: IncomingHttpHeaders;
  readonly params?: unknown;
  readonly query?: unknown;
  readonly body?: unknown;
  readonly user?: unknown;
}

/**
 * A function of the request. It is declared like a method, whose parameters TypeScript compares in
 * both directions: `(request: Request) => …` with Express' type, `(request: FastifyRequest) => …` and
 * `(request: { user: Account }) => …` all fit without a cast. Which of them the platform hands over
 * is the application's knowledge, not this library's.
 */
export type FromRequest<Rest extends readonly unknown[], Result> = {
  call(request: IdempotencyRequest, ...rest: Rest): Result;
}['call'];

export type ScopeFunction = FromRequest<[], string | undefined | Promise<string | undefined>>;
export type FingerprintFunction = FromRequest<[context: ExecutionContext], unknown>;

/** Where the key is found. All but `header` are natural keys: they say by themselves what they refer to. */
export type KeyFrom =
  | { readonly header: string | readonly string[] }
  /** A route parameter: `{ param: 'id' }`. */
  | { readonly param: string }
  /** A dotted path in the parsed body: `{ body: 'event.id' }`. */
  | { readonly body: string }
  | ((context: ExecutionContext) => string | undefined);

/** What is stored of an answer. */
export interface RedactableAnswer {
  readonly status: number;
  /** The kept header fields, names in lower case. A field that was set as a list is one. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  /** A copy of the bytes before any content coding. */
  readonly body: Buffer;
}

export type RedactFunction = (answer: RedactableAnswer) => RedactableAnswer;

/** For one handler, or a controller's: `@Idempotent({ … })`. What is left out is as the module has it. */
export interface IdempotentOptions {
  /** Whether a request without a key is refused with 400. Default: `false`, it runs unprotected. */
  readonly required?: boolean;
  /**
   * Whose key it is. A function that yields `undefined` or `''` is a bug, and the request is refused.
   * `false`: all callers share one space on purpose. Default: `id`, `sub` or `userId` of `request.user`.
   */
  readonly scope?: ScopeFunction | false;
  /** Names the space of keys for good, so that handlers share it or a route can be renamed. Default: one space for header keys, one per handler for natural keys. */
  readonly operation?: string;
  /** Where the key is found. Default: the module's `header`. */
  readonly keyFrom?: KeyFrom;
  /** `'any'` (printable ASCII), `'uuid'`, a RegExp as you write it, or a predicate; 1 to 255 characters in any case. Default: `'any'`. */
  readonly keyFormat?: KeyFormat;
  /**
   * What a retry must repeat beside method and path; with a natural key, what it must repeat at all.
   * Return plain data, or a promise of it. Default: the whole request, and nothing for a natural key.
   */
  readonly fingerprint?: FingerprintFunction;
  /** How long a stored answer is replayed, from completion. Default: `'24h'`. Raise it for clients that retry for longer. */
  readonly ttl?: Duration;
  /**
   * The lease of a running execution, renewed every third of it. Default: `'60s'`. After a crash a key
   * waits this long; a process that stalls for longer loses its key while it may still be running.
   */
  readonly lockTtl?: Duration;
  /** The wait told with 409 while the first request is running; in whole seconds on the wire. Default: `'1s'`. */
  readonly retryAfter?: Duration;
  /** After a crash: `'rerun'` lets the next request run the handler again, `'reject'` refuses until somebody has looked. Default: `'rerun'`. */
  readonly onLostExecution?: 'rerun' | 'reject';
  /**
   * What becomes of a request whose key is in flight: `'reject'` with 409 at once, or `'wait'` for the
   * first one's answer, at most `waitTimeout`. Default: `'reject'`. `Prefer: wait=n` (RFC 7240) shortens the wait.
   */
  readonly onDuplicate?: 'reject' | 'wait';
  /** The longest wait for an answer in the making. Default: `'10s'`. Keep it below what clients and proxies wait. */
  readonly waitTimeout?: Duration;
  /**
   * Handler and record in one transaction of the application's: business rows and answer commit
   * together, or neither does. The handler uses `execution.manager` (or `client`). Default: `false`.
   */
  readonly atomic?: boolean | AtomicOptions;
  /**
   * Whether the claim's commit waits for the disk. Default: `true`, in atomic mode `false`. Without it a
   * crash of Postgres itself may forget a claim, together with all that this database was told after it.
   */
  readonly durableClaim?: boolean;
  /**
   * Which outcomes of a handler that began are kept; others free the key. `'all'`, or a function of the
   * status and, where the handler threw, the error. Default: below 500, but not 401, 403, 408, 425 and 429.
   */
  readonly storeIf?: StoreIf;
  /** A larger answer passes through and can't be replayed. Bytes. Default: 1 MiB. It is held in memory and in one row. */
  readonly maxBodyBytes?: number;
  /** Longest wait for Postgres at the claim, and again at completion. Default: `'5s'`. */
  readonly storeTimeout?: Duration;
  /**
   * Strips an answer before it is stored; the first client still gets all of it, and everybody after that
   * what was stored. It returns the same status; what it throws or returns amiss is logged, and nothing is
   * stored: the key is sealed, and not run again. Not for values of `run()` and results of steps. Default: none.
   */
  readonly redact?: RedactFunction;
  /**
   * How many records a scope may have at once for this route to take one more key; beyond, 429. Needs an
   * index of its own: `idempotencyMigrationsFor({ schema, maxLiveKeys: true })`. Default: none.
   */
  readonly maxLiveKeys?: number;
  /** Without Postgres: `'reject'` with 503, or `'bypass'` and run unprotected. Default: `'reject'`. */
  readonly onStoreFailure?: 'reject' | 'bypass';
}

export interface AtomicOptions {
  /** Default: as the database has it, which mostly is `'READ COMMITTED'`. */
  readonly isolation?: IsolationLevel;
  /** How often the whole handler is repeated when Postgres breaks it off for another transaction's sake (40001, 40P01). Default: 0. */
  readonly retries?: number;
}

/** For one handler whose clients send no key: `@Deduplicate({ window: '10s' })`. What else a route has is as the module has it. */
export interface DeduplicateOptions {
  /** For how long the same request counts as a duplicate, from the start of the first one: 100 ms to a day. */
  readonly window: Duration;
  /** What a duplicate gets: `'reject'`, 409 and when to come back, or `'replay'`, the first one's answer once there is one. Default: `'reject'`, for which no answer is stored. */
  readonly answer?: 'reject' | 'replay';
  /**
   * Whose request it is, as in `@Idempotent()`. `false`: a duplicate of anybody's counts. Default: as the
   * module has it, but a module's `false` does not count here: two callers may well say the same.
   */
  readonly scope?: ScopeFunction | false;
  /** What a duplicate must repeat beside method and path, such as the body without a time of sending. Default: the whole request. */
  readonly fingerprint?: FingerprintFunction;
  /** Without Postgres: `'reject'` with 503, or `'bypass'` and run all the same. Default: as the module has it. */
  readonly onStoreFailure?: 'reject' | 'bypass';
}

/** For the module: `IdempotencyModule.forRoot({ … })`. The options of `@Idempotent()` are defaults for all routes here. */
export interface IdempotencyModuleOptions extends IdempotentOptions {
  /** Where the records are: its connection settings are used for a pool of the module's own. Default: the application's `DataSource`. */
  readonly dataSource?: DataSource;
  /** The same for an application without TypeORM. */
  readonly pool?: Pool;
  /** Connections of the module's own pool. Default: 4. Each statement holds one for about a millisecond. */
  readonly poolSize?: number;
  /** The schema of the tables. Default: `'public'`. */
  readonly schema?: string;
  /** `false` behind a transaction pooler that can't keep them. Default: `true`. */
  readonly preparedStatements?: boolean;
  /**
   * Whether requests that come in the same moment go to Postgres in one statement. Default: `true`.
   * `false` where the tables are sharded: rows of several shards can't be passed by when somebody holds
   * them (Citus has no `FOR UPDATE SKIP LOCKED` across shards).
   */
  readonly sharedStatements?: boolean;
  /** The header with the key, or all accepted names of it. Default: `'Idempotency-Key'`. */
  readonly header?: string | readonly string[];
  /** Makes fingerprints an HMAC, so that small bodies can't be guessed from the table. At least 32 bytes, from your secret store. Default: none, plain SHA-256. */
  readonly fingerprintSecret?: string | Uint8Array;
  /** Encrypts answers and step results in the table. Default: off. See “Protecting what is stored” among the pages that README names for how to switch it on. */
  readonly encryption?: EncryptionOptions;
  /** Response headers kept beside those that always are. Default: `[]`. */
  readonly replayHeaders?: readonly string[];
  /** How many requests of this process may wait for answers in the making; beyond, 409. Default: 1000. */
  readonly maxWaiters?: number;
  /**
   * Lets injected TypeORM repositories join the atomic transaction by themselves, by replacing their
   * `manager`. Default: `false`, and nothing of the application's is touched.
   */
  readonly joinRepositories?: boolean;
  /** Longest wait for running executions at shutdown. Default: `'30s'`. Keep it below the orchestrator's grace period. */
  readonly shutdownTimeout?: Duration;
  /** The body of the module's own refusals: `'problem'` (RFC 9457) or `'nest'`. Default: `'problem'`. */
  readonly errorFormat?: 'problem' | 'nest';
  /**
   * At boot, one warning with all POST, PATCH and `@All` handlers that have no `@Idempotent()`,
   * `@Deduplicate()`, `@RequireIfMatch()` or `@SkipIdempotency()`. PUT and DELETE are idempotent as they
   * are (RFC 9110, section 9.2.2): a handler that keeps to that needs no key. Default: `false`.
   */
  readonly warnUnprotected?: boolean;
  /** Removes expired records: how often, and how many at a time. `false`: somebody else does. Default: `{ every: '1m', batch: 1000 }`. */
  readonly reaper?: false | ReaperOptions;
}

/** AES-256-GCM, with a key for each record that is derived from yours. */
export interface EncryptionOptions {
  /**
   * The first one seals, all of them open. Each is 32 random bytes, or a text of at least 32 characters,
   * from your secret store. To rotate: first add the new key behind the old one everywhere, then put it in front.
   */
  readonly keys: readonly (string | Uint8Array)[];
  /** Whether records that are not encrypted are believed: while it is switched on or off. Default: `false`, they are refused with 500. */
  readonly acceptPlain?: boolean;
  /** Whether nothing is encrypted yet: the first stage of switching it on, until every instance has the keys. Default: `false`. */
  readonly writePlain?: boolean;
}

export interface ReaperOptions {
  /** Default: `'1m'`. */
  readonly every?: Duration;
  /** Rows per statement. Default: 1000. Smaller bites hold their row locks for less time. */
  readonly batch?: number;
}

/** For `IdempotencyModule.forRootAsync({ useClass })` and `useExisting`. */
export interface IdempotencyOptionsFactory {
  createIdempotencyOptions(): IdempotencyModuleOptions | Promise<IdempotencyModuleOptions>;
}
