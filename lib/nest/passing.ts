/**
 * What lies below a request that is let pass: everything comes through as it is, but for this library's
 * errors, which are worded. It is on the way of every request of an application, so it is what RxJS
 * takes for the subscriber above, rather than one more with a teardown of its own.
 */
import type { ExecutionContext } from '@nestjs/common';
import { Observable } from 'rxjs';
import type { Observer, Subscriber, TeardownLogic, Unsubscribable } from 'rxjs';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';

/** The exception for Nest's filters. */
export type Wording = (context: ExecutionContext, error: IdempotencyError) => Error;

/** Stands for the subscriber above: what is torn down with that one is added there. */
export abstract class Passing implements Observer<unknown>, Unsubscribable {
  constructor(private readonly above: Subscriber<unknown>) {}

  protected abstract worded(error: IdempotencyError): Error;

  get closed(): boolean {
    return this.above.closed;
  }

  next(value: unknown): void {
    this.above.next(value);
  }

  error(error: unknown): void {
    this.above.error(isIdempotencyError(error) ? this.wordedOrFault(error) : error);
  }

  complete(): void {
    this.above.complete();
  }

  add(teardown: TeardownLogic): void {
    this.above.add(teardown);
  }

  remove(teardown: Exclude<TeardownLogic, void>): void {
    this.above.remove(teardown);
  }

  unsubscribe(): void {
    this.above.unsubscribe();
  }

  /** An answer that has left takes no headers any more, and Nest's filters are to hear of that. */
  private wordedOrFault(error: IdempotencyError): unknown {
    try {
      return this.worded(error);
    } catch (fault) {
      return fault;
    }
  }
}

/** Of a request that is none of ours. */
export class Unguarded extends Observable<unknown> {
  constructor(
    readonly below: Observable<unknown>,
    readonly context: ExecutionContext,
    readonly wording: Wording,
  ) {
    super(follow);
  }
}

function follow(this: Observable<unknown>, above: Subscriber<unknown>): void {
  const { below, context, wording } = this as Unguarded;
  below.subscribe(new UnguardedPassing(above, context, wording));
}

class UnguardedPassing extends Passing {
  constructor(
    above: Subscriber<unknown>,
    private readonly context: ExecutionContext,
    private readonly wording: Wording,
  ) {
    super(above);
  }

  protected override worded(error: IdempotencyError): Error {
    return this.wording(this.context, error);
  }
}
