/**
 * The subscription to what lies below a request that owns its key, for those above. Whatever those do
 * with theirs, it is kept: the handler's end is the key's, and somebody must hear of it. It decides
 * nothing, and tells the request when nobody waits for the handler any more.
 */
import type { CallHandler } from '@nestjs/common';
import type { Observer, Subscriber, Unsubscribable } from 'rxjs';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Stay } from './context.js';
import type { HandlerRun } from './handler-run.js';

export interface Followed {
  readonly run: HandlerRun;
  /** Those above, or those in between, have come to an end; it may be without the handler's. */
  leftBehind(): void;
  /** The exception for Nest's filters. */
  refusal(error: IdempotencyError): Error;
}

/** An observer of what lies below, and for the one above what is to be torn down. */
export class Following implements Observer<unknown>, Unsubscribable {
  #over = false;

  constructor(
    private readonly followed: Followed,
    private readonly above: Subscriber<unknown>,
    private readonly stay: Stay,
  ) {}

  begin(below: CallHandler): void {
    this.stay.run((following) => below.handle().subscribe(following), this);
    this.above.add(this);
  }

  next(value: unknown): void {
    this.above.next(value);
  }

  error(error: unknown): void {
    this.#ends();
    this.above.error(isIdempotencyError(error) ? this.followed.refusal(error) : error);
  }

  complete(): void {
    this.#ends();
    this.above.complete();
  }

  /** The one above has ended or gives up. The context stays for as long as a handler may ask for it. */
  unsubscribe(): void {
    if (!this.#over) this.followed.leftBehind();
    const { run } = this.followed;
    if (run.atWork) void run.whenIdle().then(() => this.stay.leave());
    else this.stay.leave();
  }

  #ends(): void {
    this.#over = true;
    this.followed.leftBehind();
  }
}
