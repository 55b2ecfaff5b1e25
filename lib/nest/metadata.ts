/**
 * The metadata that is ours, and the names under which Nest keeps what we must read of its own.
 * Symbols are shared by all copies of this library in a process.
 */
import type { DeduplicateOptions, IdempotentOptions } from './options.js';

export const IDEMPOTENT = Symbol.for('nestjs-idempotency-pg.idempotent');
export const SKIPPED = Symbol.for('nestjs-idempotency-pg.skip');
/** On a method or a class that refuses a request without `If-Match`: a repetition of it is refused as outdated. */
export const REQUIRES_IF_MATCH = Symbol.for('nestjs-idempotency-pg.requires-if-match');

/** On a method whose answers wear their version as an `ETag`. */
export const SENDS_VERSION = Symbol.for('nestjs-idempotency-pg.sends-version');

/** What `@Idempotent()` and `@Deduplicate()` leave on a method. */
export interface IdempotentMetadata {
  /** Tells this method's wrapper from every other one's; survives decorators that copy metadata. */
  readonly token: object;
  readonly classOptions: IdempotentOptions | undefined;
  readonly handlerOptions: IdempotentOptions | undefined;
  /** `@Idempotent()` by name, rather than only as a member of a decorated class. */
  readonly explicit: boolean;
  /** What `@Deduplicate()` was given, where that stands on it. */
  readonly deduplicate: DeduplicateOptions | undefined;
  /** Interceptors of the method run before us and may parse the parts of a multipart body. */
  readonly behindInterceptors: boolean;
}

/**
 * Nest's own metadata keys, as @nestjs/common and @nestjs/microservices write them. Spelled out
 * because the latter need not be installed and the constants are no public exports; they have been
 * the same since Nest 6.
 */
export const NEST = {
  method: 'method',
  sse: '__sse__',
  interceptors: '__interceptors__',
  version: '__version__',
  render: '__renderTemplate__',
  parameters: '__routeArguments__',
  constructorTypes: 'design:paramtypes',
  constructorTokens: 'self:paramtypes',
  propertyTokens: 'self:properties_metadata',
  messagePattern: 'microservices:pattern',
} as const;

export function idempotentMetadata(method: unknown): IdempotentMetadata | undefined {
  return typeof method === 'function' ? (Reflect.getMetadata(IDEMPOTENT, method) as IdempotentMetadata | undefined) : undefined;
}
