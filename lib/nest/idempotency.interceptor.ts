/**
 * The way of a request through Nest: read it, ask the engine, and do what the verdict says. It does
 * nothing for handlers that are neither `@Idempotent()` nor `@Deduplicate()`, but word what the recipes
 * refuse there.
 */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import type { Subscriber } from 'rxjs';
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { AtomicSettings } from '../contract/settings.js';
import type { Admission, Engine } from '../engine/engine.js';
import type { Verdict } from '../engine/verdict.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { OwnedExecution } from '../engine/execution.js';
import type { Scope } from '../engine/scope.js';
import { isMultipart } from '../engine/media-type.js';
import { problemResponse } from '../http/problem-details.js';
import { replayResponse } from '../http/replay.js';
import { exchangeOf, readExchange, readRequest } from '../http/request-facts.js';
import type { Exchange, RequestFacts } from '../http/request-facts.js';
import { askedBy, keyOf, scopeOf } from './admission.js';
import type { Asked } from './admission.js';
import type { Arrival } from './arrival.js';
import { enterUnguarded } from './context.js';
import { IdempotencyEvents } from './events.js';
import { HandlerExecution } from './handler-execution.js';
import { KeyedRequest } from './keyed-request.js';
import type { KeyedRequestRules } from './keyed-request.js';
import { defer } from './parts-gate.js';
import { Unguarded } from './passing.js';
import { patienceOf, presenceOf } from './patience.js';
import { logForDevelopers, refusal } from './problem-exception.js';
import { redacted } from './redaction.js';
import type { ResolvedOptions, ResolvedRoute } from './resolve-options.js';
import type { IdempotentRoute, IdempotentRoutes } from './routes.js';
import { CLOCK, ENGINE, MODULE_INSTANCE, RESOLVED_OPTIONS, ROUTES, STORE } from './tokens.js';
import { UnkeyedRequest } from './unkeyed-request.js';
import type { UnkeyedRequestRules } from './unkeyed-request.js';
import { Warnings } from './warnings.js';

/** What clients see on an answer that was given before. */
const REPLAYED = { 'Idempotent-Replayed': 'true' };

@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  readonly #logger = new Logger('Idempotency');
  readonly #warnings = new Warnings();
  readonly #rules: KeyedRequestRules;
  readonly #unkeyedRules: UnkeyedRequestRules;

  constructor(
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(STORE) private readonly store: IdempotencyStore,
    @Inject(ROUTES) private readonly routes: IdempotentRoutes,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(CLOCK) clock: Clock,
    @Inject(IdempotencyEvents) private readonly events: EventSink,
    @Inject(MODULE_INSTANCE) instance: object,
  ) {
    this.#rules = {
      engine,
      clock,
      instance,
      keptHeaders: options.keptHeaders,
      redact: ({ route }, answer) => redacted(route.settings, answer, this.#logger),
      wordInstead: (arrival, found) => (found.kind === 'replay' ? replayed(found.answer) : this.#refusalAnswer(arrival, found.error)),
      refusal: (arrival, error) => this.#refusal(arrival, error),
    };
    this.#unkeyedRules = { engine, store, instance, wording: (context, error) => this.#worded(context, error) };
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const route = this.routes.of(context);
    if (route === undefined) return this.#unguarded(context, next);
    const native = context.getArgByIndex<object>(0); // by its place: switchToHttp() makes three functions for every call
    const request = readRequest(native);
    if (!route.coversAll && !route.covers(request.method)) {
      enterUnguarded(native);
      return this.#unguarded(context, next);
    }
    if (route.behindInterceptors && isMultipart(request.contentType)) {
      // Its parts are parsed further in, where this is taken up again.
      defer(native, (inner) => this.#admit(route, readRequest(native), context, inner));
      return next.handle();
    }
    return this.#admit(route, request, context, next);
  }

  /** Recipes may be used in any handler, and what they refuse is worded as everywhere. */
  #unguarded(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return new Unguarded(next.handle(), context, this.#unkeyedRules.wording);
  }

  #admit(route: IdempotentRoute, request: RequestFacts, context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { settings } = route;
    let key: string | undefined;
    try {
      key = keyOf(settings, request, context);
    } catch (error) {
      throw this.#rejected(arrivalOf(route, request, context, next), error);
    }
    const { atomic, window } = settings;
    if (key !== undefined || window !== undefined) {
      const arrival = arrivalOf(route, request, context, next);
      return new Observable((subscriber) => this.#decide(arrival, key, subscriber));
    }
    if (atomic === undefined) return new UnkeyedRequest(this.#unkeyedRules, route, context, next);
    const arrival = arrivalOf(route, request, context, next);
    return new Observable((subscriber) => this.#inTransaction(arrival, atomic, subscriber));
  }

  /**
   * What is decided is followed up even if the subscriber has gone by then: a key that was claimed must
   * be given back.
   */
  #decide(arrival: Arrival, key: string | undefined, subscriber: Subscriber<unknown>): void {
    try {
      const asked = this.#asked(arrival, key);
      // A promise where there is nothing to wait for would be on every request's way.
      if (asked instanceof Promise) void this.#decideLater(arrival, key, asked, subscriber);
      else this.#begin(arrival, key, asked, subscriber);
    } catch (error) {
      subscriber.error(this.#rejected(arrival, error));
    }
  }

  async #decideLater(arrival: Arrival, key: string | undefined, asked: Promise<Asked>, subscriber: Subscriber<unknown>): Promise<void> {
    try {
      this.#begin(arrival, key, await asked, subscriber);
    } catch (error) {
      subscriber.error(this.#rejected(arrival, error));
    }
  }

  #asked(arrival: Arrival, key: string | undefined): Asked | Promise<Asked> {
    const { route, exchange, context } = arrival;
    const scope = scopeOf(route.settings, exchange.request, context);
    return scope instanceof Promise ? scope.then((known) => this.#askedIn(known, arrival, key)) : this.#askedIn(scope, arrival, key);
  }

  #askedIn(scope: Scope, { route, exchange, context }: Arrival, key: string | undefined): Asked | Promise<Asked> {
    this.#warnings.ifAnonymous(route.settings.handler, scope);
    return askedBy(route, exchange.request, context, scope, key, this.options.fingerprintSecret);
  }

  #begin(arrival: Arrival, key: string | undefined, { identity, fingerprint }: Asked, subscriber: Subscriber<unknown>): void {
    const { route, exchange } = arrival;
    const { settings } = route;
    const { waitMs } = patienceOf(settings, exchange);
    const admission: Admission = { identity, fingerprint, settings, handler: settings.handler, waitMs };
    (waitMs === 0 ? this.engine.begin(admission) : this.#askOrWait(admission, exchange)).then(
      (verdict) => this.#follow(verdict, arrival, key, admission, subscriber),
      (error: unknown) => subscriber.error(this.#rejected(arrival, error)),
    );
  }

  #follow(verdict: Verdict, arrival: Arrival, key: string | undefined, asked: Asked, subscriber: Subscriber<unknown>): void {
    const { route, exchange } = arrival;
    const { settings } = route;
    try {
      switch (verdict.kind) {
        case 'run':
          return this.#run(arrival, verdict.execution, key, subscriber);
        case 'replay':
          if (route.renders) exchange.response.muteViews();
          replayResponse(exchange.response, verdict.answer, { ...REPLAYED, ...preferenceApplied(settings, exchange) });
          subscriber.next(undefined);
          return subscriber.complete();
        case 'refuse':
          if (verdict.error.code === 'IDEMPOTENCY_KEY_REUSED') this.#warnings.ifAlwaysTheSame(settings.handler, asked);
          for (const [name, value] of Object.entries(preferenceApplied(settings, exchange))) exchange.response.setHeader(name, value);
          return subscriber.error(this.#refusal(arrival, verdict.error));
        case 'bypass':
          this.#unprotected(
            arrival,
            new HandlerExecution(() => this.engine.unkeyed(settings, settings.handler, asked), this.store, key),
          ).subscribe(subscriber);
      }
    } catch (error) {
      subscriber.error(this.#rejected(arrival, error));
    }
  }

  /** Without a key, an atomic handler runs in a transaction all the same. */
  #inTransaction(arrival: Arrival, atomic: AtomicSettings, subscriber: Subscriber<unknown>): void {
    const { settings } = arrival.route;
    this.engine
      .beginUnkeyed(settings, atomic, settings.handler)
      .then((owned) => this.#run(arrival, owned, undefined, subscriber))
      .catch((error: unknown) => subscriber.error(this.#rejected(arrival, error)));
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

  #run(arrival: Arrival, owned: OwnedExecution, key: string | undefined, subscriber: Subscriber<unknown>): void {
    new KeyedRequest(this.#rules, arrival, owned).follow(subscriber, new HandlerExecution(owned, this.store, key));
  }

  /** Without a store where the route prefers that: the handler runs as it would without us. */
  #unprotected({ route, context, next }: Arrival, execution: HandlerExecution): Observable<unknown> {
    return new UnkeyedRequest(this.#unkeyedRules, route, context, next, execution);
  }

  /** What a request that did not get as far as its handler is answered with. */
  #rejected(arrival: Arrival, error: unknown): unknown {
    if (!isIdempotencyError(error)) return error;
    const { handler } = arrival.route.settings;
    if (this.events.wants('rejected')) this.events.emit({ type: 'rejected', handler, code: error.code });
    return this.#refusal(arrival, error);
  }

  /** The exception for Nest's filters, of a request that owns no key. */
  #worded(context: ExecutionContext, error: IdempotencyError): Error {
    const handler = this.routes.of(context)?.settings.handler ?? `${context.getClass().name}.${context.getHandler().name}`;
    logForDevelopers(this.#logger, handler, error);
    return refusal(error, this.options.errorFormat, readExchange(context.getArgByIndex(0), context.getArgByIndex(1)).response);
  }

  /** The same of one that may own its key. */
  #refusal({ route, exchange }: Arrival, error: IdempotencyError): Error {
    logForDevelopers(this.#logger, route.settings.handler, error);
    return refusal(error, this.options.errorFormat, exchange.response);
  }

  /** The whole answer, where the filters have had their turn already. */
  #refusalAnswer({ route }: Arrival, error: IdempotencyError): RecordedResponse {
    logForDevelopers(this.#logger, route.settings.handler, error);
    return problemResponse(error, this.options.errorFormat);
  }
}

function arrivalOf(route: IdempotentRoute, request: RequestFacts, context: ExecutionContext, next: CallHandler): Arrival {
  return { route, exchange: exchangeOf(context.getArgByIndex(0), request, context.getArgByIndex(1)), context, next };
}

function preferenceApplied(settings: ResolvedRoute, exchange: Exchange): Record<string, string> {
  const { applied } = patienceOf(settings, exchange);
  return applied === undefined ? {} : { 'Preference-Applied': `wait=${applied}` };
}

function replayed(answer: RecordedResponse): RecordedResponse {
  return { ...answer, headers: [...answer.headers, ...Object.entries(REPLAYED)] };
}
