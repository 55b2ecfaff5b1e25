/**
 * Turns options as written into what the module works with: checked, merged, defaults filled in,
 * frozen. It runs once at boot; past it nobody asks what was left out.
 */
import { createSecretKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { ExecutionContext } from '@nestjs/common';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { ALWAYS_KEPT_HEADERS } from '../contract/recorded-response.js';
import type { AtomicSettings, ExecutionSettings } from '../contract/settings.js';
import type { KeyFormat } from '../engine/key.js';
import { outcomePolicy } from '../engine/outcome-policy.js';
import { sealingKey } from '../engine/sealing.js';
import type { SealingSettings } from '../engine/sealing.js';
import { acceptedModuleOptions, acceptedRouteOptions, given, routeDefaultsIn } from './accepted-options.js';
import { parseDuration } from './duration.js';
import { shown } from './faults.js';
import type { Faults } from './faults.js';
import type {
  AtomicOptions,
  Duration,
  EncryptionOptions,
  FingerprintFunction,
  IdempotencyModuleOptions,
  IdempotentOptions,
  KeyFrom,
  RedactFunction,
  ScopeFunction,
} from './options.js';

/** Stripe keeps keys for a day, and clients have learnt to rely on that. */
const LEAST_TTL_FOR_CLIENTS_MS = 86_400_000;

const MODULE_DEFAULTS = {
  poolSize: 4, // a statement takes about a millisecond: enough for thousands of requests a second, and not felt beside the application's own
  schema: 'public',
  preparedStatements: true,
  sharedStatements: true,
  header: 'Idempotency-Key',
  replayHeaders: [],
  maxWaiters: 1000,
  joinRepositories: false,
  shutdownTimeout: '30s', // what Kubernetes grants before it kills
  errorFormat: 'problem',
  warnUnprotected: false,
  reaper: {},
} as const satisfies IdempotencyModuleOptions;

const REAPER_DEFAULTS = { every: '1m', batch: 1000 } as const;

const ROUTE_DEFAULTS = {
  required: false,
  keyFormat: 'any',
  ttl: '24h',
  lockTtl: '60s', // outlives a long garbage collection or a failover; a key of a crashed process waits no longer than its client's patience
  retryAfter: '1s',
  onLostExecution: 'rerun',
  onDuplicate: 'reject',
  waitTimeout: '10s', // most clients and proxies give up at 30 s or later
  atomic: false,
  maxBodyBytes: 1024 * 1024, // far above what an answer to a POST has, and small enough to hold for every request under way
  storeTimeout: '5s', // longer than a failover of a connection pooler, shorter than what clients and gateways wait
  onStoreFailure: 'reject',
} as const satisfies IdempotentOptions;

export interface ResolvedOptions {
  /** One of the two at most. With neither, the application's own `DataSource` is meant. */
  readonly dataSource: DataSource | undefined;
  readonly pool: Pool | undefined;
  readonly poolSize: number;
  readonly schema: string;
  readonly preparedStatements: boolean;
  readonly sharedStatements: boolean;
  /** In a form that no log can print. */
  readonly fingerprintSecret: KeyObject | undefined;
  /** Its keys likewise. */
  readonly encryption: SealingSettings | undefined;
  /** Lower-case names of all header fields that are kept. */
  readonly keptHeaders: ReadonlySet<string>;
  readonly maxWaiters: number;
  readonly joinRepositories: boolean;
  readonly shutdownTimeoutMs: number;
  readonly errorFormat: 'problem' | 'nest';
  readonly warnUnprotected: boolean;
  readonly reaper: false | { readonly everyMs: number; readonly batch: number };
  /** How long an answer is kept that belongs to no route any more. */
  readonly defaultRetentionMs: number;
  /** For what is no single route's: renewing leases, reaping. */
  readonly storeTimeoutMs: number;
  /** What routes are resolved from, checked but not yet merged. */
  readonly routes: { readonly header: string | readonly string[]; readonly defaults: IdempotentOptions };
}

/** Where a route's keys are found. `label` names it in a sentence for the client: “in the Idempotency-Key header”. */
export type KeySource =
  /** `names` in lower case, and as they were `written`. */
  | { readonly kind: 'header'; readonly label: string; readonly names: readonly string[]; readonly written: readonly string[] }
  | { readonly kind: 'param'; readonly label: string; readonly name: string }
  | { readonly kind: 'body'; readonly label: string; readonly path: string }
  | { readonly kind: 'function'; readonly label: string; readonly read: (context: ExecutionContext) => unknown }
  /** Requests carry none: they are known again by what they say. */
  | { readonly kind: 'none'; readonly label: string };

export interface ResolvedRoute extends ExecutionSettings {
  /** `Controller.method`. */
  readonly handler: string;
  readonly required: boolean;
  /** `shared` is one space for all callers on purpose, `default` the rule for `request.user`. */
  readonly scope: ScopeFunction | 'shared' | 'default';
  /** `''` for keys that clients send. `undefined`: natural keys whose space is the handler's method and route pattern. */
  readonly operation: string | undefined;
  readonly keyFrom: KeySource;
  readonly keyFormat: KeyFormat;
  readonly fingerprint: FingerprintFunction | undefined;
  readonly redact: RedactFunction | undefined;
  /** Clients may retry for a day, and this route forgets sooner: worth a warning. */
  readonly forgetsWithinADay: boolean;
}

export function resolveModuleOptions(written: IdempotencyModuleOptions, faults: Faults): ResolvedOptions {
  const accepted = acceptedModuleOptions(written, faults);
  const options = { ...MODULE_DEFAULTS, ...accepted };
  if (options.dataSource !== undefined && options.pool !== undefined) {
    faults.add({ option: 'pool', fault: 'is given beside dataSource', remedy: 'Give the one that the application uses.' });
  }
  const reaper = options.reaper && { ...REAPER_DEFAULTS, ...given(options.reaper) };
  return Object.freeze({
    dataSource: options.dataSource,
    pool: options.pool,
    poolSize: options.poolSize,
    schema: options.schema,
    preparedStatements: options.preparedStatements,
    sharedStatements: options.sharedStatements,
    fingerprintSecret: secretKey(options.fingerprintSecret),
    encryption: sealingSettings(options.encryption),
    keptHeaders: new Set<string>([...ALWAYS_KEPT_HEADERS, ...options.replayHeaders.map((name) => name.toLowerCase())]),
    maxWaiters: options.maxWaiters,
    joinRepositories: options.joinRepositories,
    shutdownTimeoutMs: msOf(options.shutdownTimeout),
    errorFormat: options.errorFormat,
    warnUnprotected: options.warnUnprotected,
    reaper: reaper && Object.freeze({ everyMs: msOf(reaper.every), batch: reaper.batch }),
    defaultRetentionMs: msOf(accepted.ttl ?? ROUTE_DEFAULTS.ttl),
    storeTimeoutMs: msOf(accepted.storeTimeout ?? ROUTE_DEFAULTS.storeTimeout),
    routes: Object.freeze({ header: options.header, defaults: Object.freeze(routeDefaultsIn(accepted)) }),
  });
}

/** One route as it was decorated. */
export interface WrittenRoute {
  readonly controller: string;
  readonly method: string;
  readonly classOptions: IdempotentOptions | undefined;
  readonly handlerOptions: IdempotentOptions | undefined;
  /** Told when the route's `storeIf` function fails; the default rule has decided in its place. */
  readonly onStoreIfFailure: (error: unknown) => void;
}

export function resolveRoute(module: ResolvedOptions, route: WrittenRoute, faults: Faults): ResolvedRoute {
  const handler = `${route.controller}.${route.method}`;
  const options = {
    ...ROUTE_DEFAULTS,
    ...module.routes.defaults,
    ...acceptedRouteOptions(route.classOptions, route.controller, faults),
    ...acceptedRouteOptions(route.handlerOptions, handler, faults),
  };
  const keyFrom = keySource(options.keyFrom ?? { header: module.routes.header });
  const retentionMs = msOf(options.ttl);
  const atomic = atomicSettings(options.atomic);
  if (atomic !== undefined && options.onStoreFailure === 'bypass') {
    faults.add({
      option: 'onStoreFailure',
      where: handler,
      fault: "is 'bypass' on an atomic handler, which has no transaction without Postgres",
      remedy: "Leave it at 'reject'.",
    });
  }
  return Object.freeze({
    handler,
    required: options.required,
    scope: options.scope === false ? 'shared' : (options.scope ?? 'default'),
    operation: options.operation ?? (keyFrom.kind === 'header' ? '' : undefined),
    keyFrom,
    keyFormat: options.keyFormat,
    fingerprint: options.fingerprint,
    redact: options.redact,
    forgetsWithinADay: keyFrom.kind === 'header' && retentionMs < LEAST_TTL_FOR_CLIENTS_MS,
    retentionMs,
    window: undefined,
    leaseMs: msOf(options.lockTtl),
    retryAfterMs: msOf(options.retryAfter),
    onLostExecution: options.onLostExecution,
    // What an atomic handler does is in this database, and WAL is flushed in order: its commit has the claim on disk before it.
    durableClaim: options.durableClaim ?? atomic === undefined,
    atomic,
    waitMs: options.onDuplicate === 'wait' ? msOf(options.waitTimeout) : 0,
    storeTimeoutMs: msOf(options.storeTimeout),
    onStoreFailure: options.onStoreFailure,
    maxBodyBytes: options.maxBodyBytes,
    maxLiveKeys: options.maxLiveKeys,
    keeps: outcomePolicy(options.storeIf, route.onStoreIfFailure),
  });
}

function atomicSettings(atomic: boolean | AtomicOptions): AtomicSettings | undefined {
  if (atomic === false) return undefined;
  const { isolation, retries = 0 } = atomic === true ? {} : atomic;
  return Object.freeze({ isolation, retries });
}

function keySource(from: KeyFrom): KeySource {
  if (typeof from === 'function') return Object.freeze({ kind: 'function', label: 'the request', read: from });
  if ('param' in from) return Object.freeze({ kind: 'param', label: `the route parameter "${from.param}"`, name: from.param });
  if ('body' in from) return Object.freeze({ kind: 'body', label: `the body at "${from.body}"`, path: from.body });
  const names = typeof from.header === 'string' ? [from.header] : from.header;
  const lowerCase = names.map((name) => name.toLowerCase());
  return Object.freeze({
    kind: 'header',
    label: `the ${names[0]} header`,
    names: Object.freeze([...new Set(lowerCase)]),
    written: Object.freeze(names.filter((_, place) => lowerCase.indexOf(lowerCase[place]!) === place)),
  });
}

function secretKey(secret: string | Uint8Array | undefined): KeyObject | undefined {
  if (secret === undefined) return undefined;
  return createSecretKey(typeof secret === 'string' ? Buffer.from(secret, 'utf8') : secret);
}

function sealingSettings(written: EncryptionOptions | undefined): SealingSettings | undefined {
  if (written === undefined) return undefined;
  const { keys, acceptPlain = false, writePlain = false } = written;
  return Object.freeze({ keys: Object.freeze(keys.map(sealingKey)), acceptPlain, writePlain });
}

/** Only for durations that have passed their check. */
export function msOf(duration: Duration): number {
  const ms = parseDuration(duration);
  if (ms === undefined) throw new TypeError(`${shown(duration)} is no duration.`);
  return ms;
}
