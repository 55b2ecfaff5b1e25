/** What is at hand of a request that has come to a route of ours: put together at the door, and passed on as it is. */
import type { CallHandler, ExecutionContext } from '@nestjs/common';
import type { Exchange } from '../http/request-facts.js';
import type { IdempotentRoute } from './routes.js';

export interface Arrival {
  readonly route: IdempotentRoute;
  readonly exchange: Exchange;
  readonly context: ExecutionContext;
  /** What lies below: inner interceptors, pipes and the handler. */
  readonly next: CallHandler;
}
