/**
 * A request that owns no key: its handler runs as it would without us, but for what it may ask of its
 * execution, of which nothing is made before it does.
 */
import type { CallHandler, ExecutionContext } from '@nestjs/common';
import { Observable } from 'rxjs';
import type { Subscriber, Unsubscribable } from 'rxjs';
import type { IdempotencyError } from '../contract/errors.js';
import type { IdempotentExecution } from '../contract/execution.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { Engine } from '../engine/engine.js';
import { enterFrame, tie } from './context.js';
import type { Frame, Stay } from './context.js';
import { HandlerExecution } from './handler-execution.js';
import type { HandlerRun } from './handler-run.js';
import { Passing } from './passing.js';
import type { Wording } from './passing.js';
import type { IdempotentRoute } from './routes.js';

/** What all requests that come to one interceptor have in common. */
export interface UnkeyedRequestRules {
  readonly engine: Engine;
  readonly store: IdempotencyStore;
  /** The module instance, to which their frames belong. */
  readonly instance: object;
  readonly wording: Wording;
}

export class UnkeyedRequest extends Observable<unknown> {
  /** @param made its execution, where that is not made when it is asked for */
  constructor(
    readonly rules: UnkeyedRequestRules,
    readonly route: IdempotentRoute,
    readonly context: ExecutionContext,
    readonly next: CallHandler,
    private made?: HandlerExecution,
  ) {
    super(run);
  }

  /** The same for all who subscribe, since whoever does so again repeats the handler: its derived keys stay the same. */
  get execution(): IdempotentExecution {
    if (this.made === undefined) {
      const { rules, route } = this;
      const { settings } = route;
      this.made = new HandlerExecution(() => rules.engine.unkeyed(settings, settings.handler), rules.store, undefined);
    }
    return this.made;
  }
}

function run(this: Observable<unknown>, above: Subscriber<unknown>): Unsubscribable {
  const passing = new UnkeyedPassing(above, this as UnkeyedRequest);
  passing.begin();
  return passing;
}

/** One call of its handler: the frame in which that can ask, until whatever was called has ended. */
class UnkeyedPassing extends Passing implements Frame {
  outer: Frame | undefined = undefined;
  private stay: Stay | undefined = undefined;

  constructor(
    above: Subscriber<unknown>,
    private readonly request: UnkeyedRequest,
  ) {
    super(above);
  }

  begin(): void {
    const stay = enterFrame(this.request.context.getArgByIndex<object>(0), this);
    this.stay = stay;
    stay.run(subscribeBelow, this);
  }

  subscribe(): void {
    this.request.next.handle().subscribe(this);
  }

  /** The one above has come to an end. */
  override unsubscribe(): void {
    super.unsubscribe();
    this.stay?.leave();
    this.stay = undefined;
  }

  get execution(): IdempotentExecution {
    const { execution } = this.request;
    tie(execution, this);
    return execution;
  }

  get instance(): object {
    return this.request.rules.instance;
  }

  get handlerToken(): object {
    return this.request.route.token;
  }

  /** Without a key there is nothing to follow the handler for. */
  get run(): HandlerRun | undefined {
    return undefined;
  }

  get inStep(): boolean {
    return false;
  }

  protected override worded(error: IdempotencyError): Error {
    const { rules, context } = this.request;
    return rules.wording(context, error);
  }
}

function subscribeBelow(passing: UnkeyedPassing): void {
  passing.subscribe();
}
