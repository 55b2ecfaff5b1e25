/**
 * The way of a request through Nest: read it, ask the engine, and do what the verdict says. It does
 * nothing for handlers that are neither `@Idempotent()` nor `@Deduplicate()`, but word what the recipes
 * refuse there.
 */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable, catchError, of } from 'rxjs';
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { IdempotentExecution } from '../contract/execution.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { AtomicSettings } from '../contract/settings.js';
import type { Admission, Engine } from '../engine/engine.js';
import type { Verdict } from '../engine/verdict.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { OwnedExecution } from '../engine/execution.js';
import { isMultipart } from '../engine/media-type.js';
import { problemResponse } from '../http/problem-details.js';
import { replayResponse } from '../http/replay.js';
import { readExchange } from '../http/request-facts.js';
import type { Exchange } from '../http/request-facts.js';
import { askedBy, keyOf, scopeOf } from './admission.js';
import { enter, enterUnguarded, isWithinRun } from './context.js';
import { IdempotencyEvents } from './events.js';
import { HandlerExecution } from './handler-execution.js';
import { KeyedRequest } from './keyed-request.js';
import { defer } from './parts-gate.js';
import { patienceOf, presenceOf } from './patience.js';
import { logForDevelopers, refusal } from './problem-exception.js';
import { redacted } from './redaction.js';
import type { ResolvedOptions } from './resolve-options.js';
import type { IdempotentRoutes } from './routes.js';
import type { IdempotentRoute } from './routes.js';
import { CLOCK, ENGINE, MODULE_INSTANCE, RESOLVED_OPTIONS, ROUTES, STORE } from './tokens.js';
import { Warnings } from './warnings.js';

/** What clients see on an answer that was given before. */
const REPLAYED = { 'Idempotent-Replayed': 'true' };

@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  readonly #logger = new Logger('Idempotency');
  readonly #warnings = new Warnings();

  constructor(
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(STORE) private readonly store: IdempotencyStore,
    @Inject(ROUTES) private readonly routes: IdempotentRoutes,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(IdempotencyEvents) private readonly events: EventSink,
    @Inject(MODULE_INSTANCE) private readonly instance: object,
  ) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const route = this.routes.of(context);
    if (route === undefined) return this.#wordErrors(context, next);
    const exchange = exchangeOf(context);
    if (!route.covers(exchange.request.method)) {
      enterUnguarded(exchange.native);
      return this.#wordErrors(context, next);
    }
    if (route.behindInterceptors && isMultipart(exchange.request.contentType)) {
      // Its parts are parsed further in, where this is taken up again.
      defer(exchange.native, (inner) => this.#admit(route, exchangeOf(context), context, inner));
      return next.handle();
    }
    return this.#admit(route, exchange, context, next);
  }

  /** Recipes may be used in any handler, and what they refuse is worded as everywhere. */
  #wordErrors(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      catchError((error: unknown) => {
        if (!isIdempotencyError(error)) throw error;
        const { response } = exchangeOf(context);
        logForDevelopers(this.#logger, `${context.getClass().name}.${context.getHandler().name}`, error);
        throw refusal(error, this.options.errorFormat, response);
      }),
    );
  }

  #admit(route: IdempotentRoute, exchange: Exchange, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { settings } = route;
    let key: string | undefined;
    try {
      key = keyOf(settings, exchange.request, context);
    } catch (error) {
      throw this.#rejected(route, exchange, error);
    }
    if (key !== undefined || settings.window !== undefined) return whenDecided(() => this.#decide(route, exchange, context, next, key));
    const { atomic } = settings;
    if (atomic !== undefined) return whenDecided(() => this.#inTransaction(route, atomic, exchange, next));
    const execution = new HandlerExecution(() => this.engine.unkeyed(settings, settings.handler), this.store, undefined);
    return this.#unprotected(route, exchange, execution, next);
  }

  async #decide(
    route: IdempotentRoute,
    exchange: Exchange,
    context: ExecutionContext,
    next: CallHandler,
    key: string | undefined,
  ): Promise<Observable<unknown>> {
    const { settings } = route;
    const { handler } = settings;
    try {
      // An await where there is nothing to wait for would be on every request's way.
      const known = scopeOf(settings, exchange.request, context);
      const scope = known instanceof Promise ? await known : known;
      this.#warnings.ifAnonymous(handler, scope);
      const read = askedBy(route, exchange.request, context, scope, key, this.options.fingerprintSecret);
      const asked = read instanceof Promise ? await read : read;
      const { identity, fingerprint } = asked;
      const { waitMs, applied } = patienceOf(settings, exchange);
      const admission: Admission = { identity, fingerprint, settings, handler, waitMs };
      const verdict = await (waitMs === 0 ? this.engine.begin(admission) : this.#askOrWait(admission, exchange));
      switch (verdict.kind) {
        case 'run':
          return this.#run(route, exchange, verdict.execution, key, next);
        case 'replay':
          if (route.renders) exchange.response.muteViews();
          replayResponse(exchange.response, verdict.answer, { ...REPLAYED, ...preferenceApplied(applied) });
          return of(undefined);
        case 'refuse':
          if (verdict.error.code === 'IDEMPOTENCY_KEY_REUSED') this.#warnings.ifAlwaysTheSame(handler, asked);
          for (const [name, value] of Object.entries(preferenceApplied(applied))) exchange.response.setHeader(name, value);
          throw this.#refusal(route, exchange, verdict.error);
        case 'bypass':
          return this.#unprotected(
            route,
            exchange,
            new HandlerExecution(() => this.engine.unkeyed(settings, handler, asked), this.store, key),
            next,
          );
      }
    } catch (error) {
      throw this.#rejected(route, exchange, error);
    }
  }

  /** Without a key, an atomic handler runs in a transaction all the same. */
  async #inTransaction(
    route: IdempotentRoute,
    atomic: AtomicSettings,
    exchange: Exchange,
    next: CallHandler,
  ): Promise<Observable<unknown>> {
    try {
      const owned = await this.engine.beginUnkeyed(route.settings, atomic, route.settings.handler);
      return this.#run(route, exchange, owned, undefined, next);
    } catch (error) {
      throw this.#rejected(route, exchange, error);
    }
  }

  /** Whoever waits for another one's answer need not do so after its own client has gone. */
  async #askOrWait(admission: Admission, { response }: Exchange): Promise<Verdict> {
    const client = presenceOf(response.raw);
    try {
      return await this.engine.begin({ ...admission, client });
    } finally {
      client.release();
    }
  }

  #run(route: IdempotentRoute, exchange: Exchange, owned: OwnedExecution, key: string | undefined, next: CallHandler): Observable<unknown> {
    const execution = new HandlerExecution(owned, this.store, key);
    const request = new KeyedRequest({
      engine: this.engine,
      execution: owned,
      response: exchange.response,
      clock: this.clock,
      keptHeaders: this.options.keptHeaders,
      redact: (answer) => redacted(route.settings, answer, this.#logger),
      wordInstead: (found) => (found.kind === 'replay' ? replayed(found.answer) : this.#refusalAnswer(route, found.error)),
      refusal: (error) => this.#refusal(route, exchange, error),
      enter: (run) => enter(exchange.native, { instance: this.instance, execution, handlerToken: route.token, run }),
      isWithin: isWithinRun,
    });
    return request.follow(next);
  }

  /** Without a key, or without a store where the route prefers that: the handler runs as it would without us. */
  #unprotected(route: IdempotentRoute, exchange: Exchange, execution: IdempotentExecution, next: CallHandler): Observable<unknown> {
    return new Observable((subscriber) => {
      const stay = enter(exchange.native, { instance: this.instance, execution, handlerToken: route.token, run: undefined });
      const below = stay.run(() =>
        next.handle().subscribe({
          next: (value) => subscriber.next(value),
          error: (error: unknown) => subscriber.error(isIdempotencyError(error) ? this.#refusal(route, exchange, error) : error),
          complete: () => subscriber.complete(),
        }),
      );
      return () => {
        below.unsubscribe();
        stay.leave();
      };
    });
  }

  /** What a request that did not get as far as its handler is answered with. */
  #rejected(route: IdempotentRoute, exchange: Exchange, error: unknown): unknown {
    if (!isIdempotencyError(error)) return error;
    if (this.events.wants('rejected')) this.events.emit({ type: 'rejected', handler: route.settings.handler, code: error.code });
    return this.#refusal(route, exchange, error);
  }

  /** The exception for Nest's filters. */
  #refusal({ settings }: IdempotentRoute, { response }: Exchange, error: IdempotencyError): Error {
    logForDevelopers(this.#logger, settings.handler, error);
    return refusal(error, this.options.errorFormat, response);
  }

  /** The whole answer, where the filters have had their turn already. */
  #refusalAnswer({ settings }: IdempotentRoute, error: IdempotencyError): RecordedResponse {
    logForDevelopers(this.#logger, settings.handler, error);
    return problemResponse(error, this.options.errorFormat);
  }
}

/** By their places among a handler's arguments: switchToHttp() makes three functions for every call. */
function exchangeOf(context: ExecutionContext): Exchange {
  return readExchange(context.getArgByIndex(0), context.getArgByIndex(1));
}

/** What comes of it is subscribed to even if nobody waits for it any more: a key that was claimed by then must be given back. */
function whenDecided(decide: () => Promise<Observable<unknown>>): Observable<unknown> {
  return new Observable((subscriber) => {
    decide().then(
      (decided) => decided.subscribe(subscriber),
      (error: unknown) => subscriber.error(error),
    );
  });
}

function preferenceApplied(seconds: number | undefined): Record<string, string> {
  return seconds === undefined ? {} : { 'Preference-Applied': `wait=${seconds}` };
}

function replayed(answer: RecordedResponse): RecordedResponse {
  return { ...answer, headers: [...answer.headers, ...Object.entries(REPLAYED)] };
}
