/**
 * The way of a request through Nest: read it, ask the engine, and do what the verdict says. It does
 * nothing for handlers that are neither `@Idempotent()` nor `@Deduplicate()`, but word what the recipes
 * refuse there.
 */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable, catchError, of, throwError } from 'rxjs';
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { IdempotentExecution } from '../contract/execution.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { Admission, Engine } from '../engine/engine.js';
import type { Verdict } from '../engine/verdict.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { OwnedExecution } from '../engine/execution.js';
import type { Scope } from '../engine/scope.js';
import { isMultipart } from '../engine/media-type.js';
import { problemResponse } from '../http/problem-details.js';
import { replayResponse } from '../http/replay.js';
import { readExchange } from '../http/request-facts.js';
import type { Exchange } from '../http/request-facts.js';
import { askedBy, keyOf, scopeOf } from './admission.js';
import { isWithinRun, withFrame } from './context.js';
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
    const route = this.routes.of(context);
    if (context.getType() !== 'http') return next.handle();
    if (route === undefined) return this.#wordErrors(context, next);
    const http = context.switchToHttp();
    const exchange = readExchange(http.getRequest(), http.getResponse());
    if (!route.covers(exchange.request.method)) return this.#wordErrors(context, next);
    if (route.behindInterceptors && isMultipart(exchange.request.contentType)) {
      // Its parts are parsed further in, where this is taken up again.
      defer(http.getRequest<object>(), (inner) => this.#admit(route, readExchange(http.getRequest(), http.getResponse()), context, inner));
      return next.handle();
    }
    return this.#admit(route, exchange, context, next);
  }

  /** Recipes may be used in any handler, and what they refuse is worded as everywhere. */
  #wordErrors(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      catchError((error: unknown) => {
        if (!isIdempotencyError(error)) throw error;
        const http = context.switchToHttp();
        const { response } = readExchange(http.getRequest(), http.getResponse());
        logForDevelopers(this.#logger, `${context.getClass().name}.${context.getHandler().name}`, error);
        throw refusal(error, this.options.errorFormat, response);
      }),
    );
  }

  /** What comes of it is subscribed to even if nobody waits for it any more: a key that was claimed by then must be given back. */
  #admit(route: IdempotentRoute, exchange: Exchange, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return new Observable((subscriber) => {
      this.#decide(route, exchange, context, next).then(
        (decided) => decided.subscribe(subscriber),
        (error: unknown) => subscriber.error(error),
      );
    });
  }

  async #decide(route: IdempotentRoute, exchange: Exchange, context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    try {
      const key = keyOf(route.settings, exchange.request, context);
      if (key === undefined && route.settings.window === undefined) return await this.#withoutKey(route, exchange, next);
      const scope = await scopeOf(route.settings, exchange.request, context);
      this.#warnings.ifAnonymous(route.settings.handler, scope);
      return await this.#begin(route, exchange, context, next, key, scope);
    } catch (error) {
      if (!isIdempotencyError(error)) throw error;
      if (this.events.wants('rejected')) this.events.emit({ type: 'rejected', handler: route.settings.handler, code: error.code });
      throw this.#refusal(route, exchange, error);
    }
  }

  async #begin(
    route: IdempotentRoute,
    exchange: Exchange,
    context: ExecutionContext,
    next: CallHandler,
    key: string | undefined,
    scope: Scope,
  ): Promise<Observable<unknown>> {
    const { settings } = route;
    const asked = await askedBy(route, exchange.request, context, scope, key, this.options.fingerprintSecret);
    const patience = patienceOf(settings, exchange);
    const verdict = await this.#ask({ ...asked, settings, handler: settings.handler, waitMs: patience.waitMs }, exchange);
    const applied: Record<string, string> = patience.applied === undefined ? {} : { 'Preference-Applied': `wait=${patience.applied}` };
    switch (verdict.kind) {
      case 'run':
        return this.#run(route, exchange, verdict.execution, key, next);
      case 'replay':
        replayResponse(exchange.response, verdict.answer, { ...REPLAYED, ...applied });
        return of(undefined);
      case 'refuse':
        if (verdict.error.code === 'IDEMPOTENCY_KEY_REUSED') this.#warnings.ifAlwaysTheSame(settings.handler, asked);
        for (const [name, value] of Object.entries(applied)) exchange.response.setHeader(name, value);
        throw this.#refusal(route, exchange, verdict.error);
      case 'bypass':
        return this.#unprotected(
          route,
          exchange,
          new HandlerExecution(() => this.engine.unkeyed(settings, settings.handler, asked), this.store, key),
          next,
        );
    }
  }

  /** Whoever waits for another one's answer need not do so after its own client has gone. */
  async #ask(admission: Admission, { response }: Exchange): Promise<Verdict> {
    if (admission.waitMs === 0) return this.engine.begin(admission);
    const client = presenceOf(response.raw);
    try {
      return await this.engine.begin({ ...admission, client });
    } finally {
      client.release();
    }
  }

  /** The handler runs as it would without us; an atomic one still in a transaction. */
  async #withoutKey(route: IdempotentRoute, exchange: Exchange, next: CallHandler): Promise<Observable<unknown>> {
    const { handler, atomic } = route.settings;
    if (atomic === undefined)
      return this.#unprotected(
        route,
        exchange,
        new HandlerExecution(() => this.engine.unkeyed(route.settings, handler), this.store, undefined),
        next,
      );
    return this.#run(route, exchange, await this.engine.beginUnkeyed(route.settings, atomic, handler), undefined, next);
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
      within: (run, work) => withFrame({ instance: this.instance, execution, handlerToken: route.token, run }, work),
      isWithin: isWithinRun,
    });
    return request.follow(next);
  }

  /** Without a key, or without a store where the route prefers that: the handler runs as it would without us. */
  #unprotected(route: IdempotentRoute, exchange: Exchange, execution: IdempotentExecution, next: CallHandler): Observable<unknown> {
    const frame = { instance: this.instance, execution, handlerToken: route.token, run: undefined };
    const handled = new Observable<unknown>((subscriber) => withFrame(frame, () => next.handle().subscribe(subscriber)));
    return handled.pipe(
      catchError((error: unknown) => throwError(() => (isIdempotencyError(error) ? this.#refusal(route, exchange, error) : error))),
    );
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

function replayed(answer: RecordedResponse): RecordedResponse {
  return { ...answer, headers: [...answer.headers, ...Object.entries(REPLAYED)] };
}
