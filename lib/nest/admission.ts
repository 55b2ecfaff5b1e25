/**
 * Reads out of a request what the engine needs to know: whose key it is, which one, and what the
 * request was. The order of the checks is the order in which the answers are promised.
 */
import type { ExecutionContext } from '@nestjs/common';
import type { KeyObject } from 'node:crypto';
import { KeyRequired } from '../contract/errors.js';
import type { Identity } from '../contract/record.js';
import { fingerprintOf } from '../engine/fingerprint.js';
import type { FingerprintParts } from '../engine/fingerprint.js';
import { checkKey, identify, keyText, parseKeyFields, valueAt } from '../engine/key.js';
import { decideScope } from '../engine/scope.js';
import type { Scope } from '../engine/scope.js';
import type { RequestFacts } from '../http/request-facts.js';
import { recognised } from '../recipes/deduplicate.js';
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

/** @throws ScopeRequired */
export async function scopeOf(route: ResolvedRoute, request: RequestFacts, context: ExecutionContext): Promise<Scope> {
  if (route.scope === 'shared') return decideScope({ rule: 'shared' });
  if (route.scope === 'default') {
    return decideScope({ rule: 'default', user: request.user, hasAuthorization: request.header('authorization').length > 0 });
  }
  return decideScope({ rule: 'configured', result: await route.scope(context.switchToHttp().getRequest()) });
}

/** Which record a request is about, and what must be the same in it for it to be the same request. */
export interface Asked {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
}

/**
 * @param key `undefined` where requests are known again by what they say
 * @throws RequestUnreadable
 */
export async function askedBy(
  { settings, version }: IdempotentRoute,
  request: RequestFacts,
  context: ExecutionContext,
  { scope }: Scope,
  key: string | undefined,
  secret: KeyObject | undefined,
): Promise<Asked> {
  const fingerprint = fingerprintOf(await partsOf(settings, request, context, key), secret);
  if (key === undefined) return recognised(scope, operationOf(version, request), fingerprint);
  return { identity: identify(scope, settings.operation ?? operationOf(version, request), key), fingerprint };
}

async function partsOf(
  route: ResolvedRoute,
  request: RequestFacts,
  context: ExecutionContext,
  key: string | undefined,
): Promise<FingerprintParts> {
  const { method, path, query, contentType } = request;
  const natural = key !== undefined && route.keyFrom.kind !== 'header';
  if (route.fingerprint !== undefined) {
    const value: unknown = await route.fingerprint(context.switchToHttp().getRequest(), context);
    return natural ? { of: 'choice-alone', value } : { of: 'choice', method, path, value };
  }
  if (natural) return { of: 'key', key };
  return { of: 'request', method, path, query, contentType, content: await contentOf(request) };
}

function readKey({ keyFrom }: ResolvedRoute, request: RequestFacts, context: ExecutionContext): string | undefined {
  switch (keyFrom.kind) {
    case 'header':
      return parseKeyFields(keyFrom.names.flatMap((name) => request.header(name)));
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

/** What a natural key refers to depends on the handler: an order's 42 is not a refund's. */
function operationOf(version: string | undefined, { method, routePattern }: RequestFacts): string {
  return `${method} ${routePattern}${version === undefined ? '' : ` v${version}`}`;
}
