/**
 * Which handlers are idempotent, and by which rules: found once at boot, looked up for each request.
 * Whatever can be wrong with a decoration is found here as well.
 */
import { Logger, RequestMethod } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { Faults } from './faults.js';
import { IDEMPOTENT, NEST, REQUIRES_IF_MATCH, SKIPPED, idempotentMetadata } from './metadata.js';
import type { IdempotentMetadata } from './metadata.js';
import { askForRequest } from './method-wrapper.js';
import { methodsOf } from './methods.js';
import { resolveDeduplication } from './resolve-deduplication.js';
import { resolveRoute } from './resolve-options.js';
import type { ResolvedOptions, ResolvedRoute } from './resolve-options.js';

export interface IdempotentRoute {
  /** The decorator's token on the method. */
  readonly token: object;
  readonly settings: ResolvedRoute;
  readonly behindInterceptors: boolean;
  /** Whether its answers are views. */
  readonly renders: boolean;
  /** The API version that Nest's versioning gave the handler, if one did: a natural key's space is one version's. */
  readonly version: string | undefined;
  /** Whether requests of that method (upper case) are protected. */
  covers(method: string): boolean;
  /** Whether those of every method are, so that nobody need ask which. */
  readonly coversAll: boolean;
}

type Class = abstract new (...args: never[]) => unknown;
type Method = (...args: never[]) => unknown;

/** Safe by RFC 9110, section 9.2.1 (or, for TRACE, no handler's business): there is nothing to protect. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
const REFUSED_METHODS: ReadonlySet<unknown> = new Set([RequestMethod.GET, RequestMethod.HEAD, RequestMethod.OPTIONS]);

/** PUT and DELETE are idempotent by RFC 9110, section 9.2.2, and POST is not; nor is PATCH, by RFC 5789, section 2. */
const METHODS_THAT_ADD_UP: ReadonlySet<unknown> = new Set([RequestMethod.POST, RequestMethod.PATCH, RequestMethod.ALL]);

export class IdempotentRoutes {
  readonly #byHandler = new Map<Method, Map<Class, IdempotentRoute>>();
  /** Handlers whose repetition nothing stops, as `Controller.method`. */
  readonly unprotected: string[] = [];
  /** Whether one of them can't do without a context. */
  needContext = false;

  /** The route of the handler that is about to be called, if it is idempotent. */
  of(context: Pick<ExecutionContext, 'getClass' | 'getHandler'>): IdempotentRoute | undefined {
    return this.#byHandler.get(context.getHandler() as Method)?.get(context.getClass());
  }

  /** @internal */
  add(controller: Class, method: Method, route: IdempotentRoute): void {
    const byClass = this.#byHandler.get(method) ?? new Map<Class, IdempotentRoute>();
    this.#byHandler.set(method, byClass.set(controller, route));
  }

  get all(): readonly IdempotentRoute[] {
    return [...this.#byHandler.values()].flatMap((byClass) => [...byClass.values()]);
  }
}

/** Finds all decorated handlers of an application. Faults are collected, not thrown. */
export function findRoutes(modules: ModulesContainer, options: ResolvedOptions, faults: Faults): IdempotentRoutes {
  const routes = new IdempotentRoutes();
  for (const module of modules.values()) {
    for (const { metatype } of module.controllers.values()) if (isClass(metatype)) addController(routes, metatype, options, faults);
    for (const { metatype } of module.providers.values()) if (isClass(metatype)) refuseProvider(metatype, faults);
  }
  return routes;
}

function addController(routes: IdempotentRoutes, controller: Class, options: ResolvedOptions, faults: Faults): void {
  let decorated = 0;
  for (const [name, method] of handlersOf(controller)) {
    const metadata = idempotentMetadata(method);
    const where = `${controller.name}.${name}`;
    if (metadata === undefined) {
      if (isUnprotected(controller, method)) routes.unprotected.push(where);
      continue;
    }
    decorated += 1;
    if (refuseHandler(method, metadata, where, faults)) continue;
    routes.add(controller, method, routeOf(controller, name, method, options, faults, metadata));
    if (!askForRequest(controller, name, method) || writesItself(controller, name)) routes.needContext = true;
  }
  const hasMessages = handlersOf(controller).some(([, method]) => Reflect.hasMetadata(NEST.messagePattern, method));
  if (decorated === 0 && hasMessages && Reflect.hasOwnMetadata(IDEMPOTENT, controller)) faults.add(notHttp(controller.name));
}

/** Of an answer that a handler may have written itself, only a context can say whether it has. */
function writesItself(controller: Class, name: string): boolean {
  const parameters = Reflect.getMetadata(NEST.parameters, controller, name) as object | undefined;
  return Object.keys(parameters ?? {}).some((kind) => RESPONSE_OR_NEXT.test(kind));
}

/** Nest's numbers for these kinds of parameters, before each one's index; the same since Nest 4. */
const RESPONSE_OR_NEXT = /^[12]:/;

/** Of a handler that carries no decorator of ours. Event streams can't be protected, so they are not complained of. */
function isUnprotected(controller: Class, method: Method): boolean {
  const requestMethod: unknown = Reflect.getMetadata(NEST.method, method);
  if (!METHODS_THAT_ADD_UP.has(requestMethod) || Reflect.hasMetadata(NEST.sse, method) || Reflect.hasMetadata(SKIPPED, method))
    return false;
  // On a class it is for what there is already, so not for POST and what may be one.
  const isConditional = Reflect.hasMetadata(REQUIRES_IF_MATCH, requestMethod === RequestMethod.PATCH ? controller : method);
  return !isConditional && !Reflect.hasMetadata(REQUIRES_IF_MATCH, method);
}

function routeOf(
  controller: Class,
  name: string,
  method: Method,
  options: ResolvedOptions,
  faults: Faults,
  metadata: IdempotentMetadata,
): IdempotentRoute {
  const { token, behindInterceptors, classOptions, handlerOptions, deduplicate } = metadata;
  const requestMethod = Reflect.getMetadata(NEST.method, method) as RequestMethod;
  const coversAll = requestMethod !== RequestMethod.ALL;
  const named = { controller: controller.name, method: name };
  const onStoreIfFailure = reporterFor(`${controller.name}.${name}`);
  return {
    token,
    behindInterceptors,
    renders: Reflect.hasMetadata(NEST.render, method),
    version: versionOf(controller, method),
    settings:
      deduplicate === undefined
        ? resolveRoute(options, { ...named, classOptions, handlerOptions, onStoreIfFailure }, faults)
        : resolveDeduplication(options, { ...named, options: deduplicate }, faults),
    covers: coversAll ? () => true : (sent) => !SAFE_METHODS.has(sent),
    coversAll,
  };
}

/** A version is a text, a list of them, or Nest's symbol for any. */
function versionOf(controller: Class, method: Method): string | undefined {
  const version: unknown = Reflect.getMetadata(NEST.version, method) ?? Reflect.getMetadata(NEST.version, controller);
  return Array.isArray(version) ? version.map(String).join(',') : typeof version === 'string' ? version : undefined;
}

function reporterFor(where: string): (error: unknown) => void {
  const logger = new Logger('Idempotency');
  return (error) =>
    logger.error(
      `${where}: storeIf failed (${error instanceof Error ? error.name : typeof error}), so the default rule decided. Let it return true or false.`,
    );
}

function refuseHandler(method: Method, metadata: IdempotentMetadata, where: string, faults: Faults): boolean {
  const option = decoratorOf(metadata);
  if (!Reflect.hasMetadata(NEST.method, method)) {
    faults.add(notHttp(where, option));
    return true;
  }
  const streamsEvents = Reflect.hasMetadata(NEST.sse, method);
  if (!streamsEvents && !REFUSED_METHODS.has(Reflect.getMetadata(NEST.method, method))) return refuseBoth(metadata, where, faults);
  faults.add({
    option,
    where,
    fault: streamsEvents
      ? 'stands on an @Sse() handler, whose answer has no end to keep'
      : 'stands on a GET, HEAD or OPTIONS handler, which is safe to retry as it is',
    remedy: 'Take it off.',
  });
  return true;
}

/** A request has a key or it has none; with both, nobody could say which of two answers it gets. */
function refuseBoth({ deduplicate, explicit, classOptions }: IdempotentMetadata, where: string, faults: Faults): boolean {
  if (deduplicate === undefined || !(explicit || classOptions !== undefined)) return false;
  faults.add({
    option: '@Deduplicate()',
    where,
    fault: explicit
      ? 'stands on a handler that is @Idempotent() as well'
      : 'stands on a handler of a class that is @Idempotent() as a whole',
    remedy: explicit
      ? 'Keep @Idempotent() if clients send keys, @Deduplicate() if they do not.'
      : 'Exempt the handler from it with @SkipIdempotency(), or take @Deduplicate() off.',
  });
  return true;
}

function decoratorOf({ deduplicate, explicit }: IdempotentMetadata): string {
  return deduplicate !== undefined && !explicit ? '@Deduplicate()' : '@Idempotent()';
}

/** Resolvers, gateways and services: nothing there is an HTTP route. */
function refuseProvider(provider: Class, faults: Faults): void {
  if (Reflect.hasOwnMetadata(IDEMPOTENT, provider)) faults.add(notHttp(provider.name));
  for (const [name, method] of handlersOf(provider)) {
    const metadata = idempotentMetadata(method);
    if (metadata !== undefined) faults.add(notHttp(`${provider.name}.${name}`, decoratorOf(metadata)));
  }
}

function notHttp(where: string, option = '@Idempotent()'): { option: string; where: string; fault: string; remedy: string } {
  return {
    option,
    where,
    fault: 'does not stand on an HTTP handler of a controller',
    remedy: 'Message handlers, GraphQL resolvers and gateways are not supported: take it off there.',
  };
}

function isClass(metatype: unknown): metatype is Class {
  return typeof metatype === 'function' && typeof metatype.prototype === 'object' && metatype.prototype !== null;
}

function handlersOf(owner: Class): [name: string, method: Method][] {
  return [...methodsOf(owner.prototype as object)].map(([name, { value }]) => [String(name), value as Method]);
}
