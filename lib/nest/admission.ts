/**
 * Reads out of a request what the engine needs to know: whose key it is, which one, and what the
 * request was. The order of the checks is the order in which the answers are promised.
 */
import type { ExecutionContext } from '@nestjs/common';
import type { KeyObject } from 'node:crypto';
import { KeyRequired } from '../contract/errors.js';
import type { Identity } from '../contract/record.js';
import { fingerprintOf } from '../engine/fingerprint.js';
import type { Content, FingerprintParts, Target } from '../engine/fingerprint.js';
import { checkKey, identify, keyText, parseKeyFields, valueAt } from '../engine/key.js';
import { decideScope } from '../engine/scope.js';
import type { Scope } from '../engine/scope.js';
import type { RequestFacts } from '../http/request-facts.js';
import { recognised } from '../recipes/deduplicate.js';
import type { FingerprintFunction, ScopeFunction } from './options.js';
import { contentOf } from './request-content.js';
import type { ResolvedRoute } from './resolve-options.js';
import type { IdempotentRoute } from './routes.js';

/**
 * The key a request came with, or `undefined` where it may come without.
 *
 * @throws KeyRequired, KeyInvalid
 */
export function keyOf(route: ResolvedRoute, request: RequestFacts, context: ExecutionContext): string | undefined {
  const key = readKey(route, request, context);
  if (key !== undefined) checkKey(key, route.keyFormat);
  else if (route.required) throw new KeyRequired(route.keyFrom.label);
  return key;
}

/**
 * At once, but for a function's, which may take its time.
 *
 * @throws ScopeRequired
 */
export function scopeOf(route: ResolvedRoute, request: RequestFacts, context: ExecutionContext): Scope | Promise<Scope> {
  if (route.scope === 'shared') return decideScope({ rule: 'shared' });
  if (route.scope === 'default') {
    return decideScope({ rule: 'default', user: request.user, hasAuthorization: request.header('authorization').length > 0 });
  }
  return configuredScope(route.scope, context);
}

async function configuredScope(scope: ScopeFunction, context: ExecutionContext): Promise<Scope> {
  return decideScope({ rule: 'configured', result: await scope(context.switchToHttp().getRequest()) });
}

/** Which record a request is about, and what must be the same in it for it to be the same request. */
export interface Asked {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
}

/**
 * At once, but for what a function of the user's says, and for files that must be read.
 *
 * @param key `undefined` where requests are known again by what they say
 * @throws RequestUnreadable
 */
export function askedBy(
  route: IdempotentRoute,
  request: RequestFacts,
  context: ExecutionContext,
  { scope }: Scope,
  key: string | undefined,
  secret: KeyObject | undefined,
): Asked | Promise<Asked> {
  const parts = partsOf(route.settings, request, context, key);
  if (parts instanceof Promise) return parts.then((read) => askedWith(fingerprintOf(read, secret), route, request, scope, key));
  return askedWith(fingerprintOf(parts, secret), route, request, scope, key);
}

function askedWith(
  fingerprint: Buffer,
  { settings, version }: IdempotentRoute,
  request: RequestFacts,
  scope: string,
  key: string | undefined,
): Asked {
  if (key === undefined) return recognised(scope, operationOf(version, request), fingerprint);
  return { identity: identify(scope, settings.operation ?? operationOf(version, request), key), fingerprint };
}

function partsOf(
  route: ResolvedRoute,
  request: RequestFacts,
  context: ExecutionContext,
  key: string | undefined,
): FingerprintParts | Promise<FingerprintParts> {
  const natural = key !== undefined && route.keyFrom.kind !== 'header';
  if (route.fingerprint !== undefined) {
    const { method, path } = request;
    return chosenParts(route.fingerprint, context, natural ? { of: 'choice-alone' } : { of: 'choice', method, path });
  }
  if (natural) return { of: 'key', key };
  const content = contentOf(request);
  return content instanceof Promise ? content.then((read) => wholeRequest(request, read)) : wholeRequest(request, content);
}

function wholeRequest({ method, path, query, contentType }: RequestFacts, content: Content): FingerprintParts {
  return { of: 'request', method, path, query, contentType, content };
}

async function chosenParts(
  fingerprint: FingerprintFunction,
  context: ExecutionContext,
  target: { readonly of: 'choice-alone' } | (Target & { readonly of: 'choice' }),
): Promise<FingerprintParts> {
  return { ...target, value: await fingerprint(context.switchToHttp().getRequest(), context) };
}

function readKey({ keyFrom }: ResolvedRoute, request: RequestFacts, context: ExecutionContext): string | undefined {
  switch (keyFrom.kind) {
    case 'header':
      return parseKeyFields(fieldsNamed(keyFrom.names, request));
    case 'param':
      return keyText(request.params[keyFrom.name]);
    case 'body':
      return keyText(valueAt(request.body, keyFrom.path));
    case 'function':
      return keyText(keyFrom.read(context));
    case 'none':
      return undefined;
  }
}

/** Nearly always it is one name, of which there is one field. */
function fieldsNamed(names: readonly string[], request: RequestFacts): readonly string[] {
  const [name] = names;
  return names.length === 1 && name !== undefined ? request.header(name) : names.flatMap((each) => request.header(each));
}

/** What a natural key refers to depends on the handler: an order's 42 is not a refund's. */
function operationOf(version: string | undefined, { method, routePattern }: RequestFacts): string {
  return `${method} ${routePattern}${version === undefined ? '' : ` v${version}`}`;
}
