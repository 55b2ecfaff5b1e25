/**
 * Watches one raw `ServerResponse` from the moment the handler may write to it, and holds every
 * byte back until somebody has said that it may leave.
 *
 * It decides nothing: what is kept, freed or sealed is the engine's to say, through the hooks. And
 * it knows no framework: Express hands it `res`, Fastify `reply.raw`.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { Clock } from '../contract/clock.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { Tap } from './tap.js';

/** Status and headers as the application meant them, before any middleware below us changes them. Names in lower case. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Readonly<OutgoingHttpHeaders>;
}

export interface HeldAnswer extends AnswerHead {
  readonly body: Buffer;
  /** A source that was piped into the response failed: what was written is not the whole answer. */
  readonly truncated: boolean;
}

/** What leaves in place of what the application wrote. */
export type Instead = RecordedResponse;

export interface TapHooks {
  /**
   * The whole answer is here and nothing has left. Once this resolves it leaves, or what it resolves
   * to instead. It must not wait for the handler, which may itself be waiting for its answer to be
   * finished (`await pipeline(file, response)`).
   */
  held(answer: HeldAnswer): Promise<Instead | undefined>;
  /**
   * The answer can't be held: it is larger than `maxBodyBytes`, an event stream, or has trailers.
   * Nothing has left; once this resolves the bytes flow as they come, or `Instead` leaves and the
   * application's bytes are dropped.
   */
  unholdable(head: AnswerHead): Promise<Instead | undefined>;
  /** The application ended an answer that flowed. Its last bytes leave when this resolves. */
  flowed(): Promise<void>;
  /**
   * There will be no answer: the application destroyed the response, or the client is gone, the
   * handler is done, and nothing has been written for `patienceMs`. Called at most once, and never
   * after `held` or `flowed`.
   */
  unanswered(): void;
}

export interface TapOptions {
  readonly maxBodyBytes: number;
  readonly patienceMs: number;
  /** Headers that the framework keeps elsewhere until it writes (Fastify's reply), as they were before the handler. */
  readonly pendingHeaders: OutgoingHttpHeaders;
  readonly clock: Clock;
}

export interface ResponseTap {
  /** Stops holding for good: the application's writes go straight to the wire, and no hook is called any more. */
  letThrough(): void;
  /** The handler's own work is over; from here on `patienceMs` counts. */
  handlerDone(): void;
  /** Announces a stream that will become the answer: until then too, a client that goes must not destroy it. */
  shield(stream: Readable): void;
}

export function tapResponse(response: ServerResponse, options: TapOptions, hooks: TapHooks): ResponseTap {
  return new Tap(response, options, hooks);
}
