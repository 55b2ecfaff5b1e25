/**
 * Loses an answer on purpose, for a request that asks for it with `X-Demo-Lose-Answer`: all the work
 * is done, and where the first byte of the answer would leave, the connection is cut instead.
 *
 * It stands below everything else, so it hears of an answer when the idempotency module lets it go,
 * and that is after the record's commit.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Injectable } from '@nestjs/common';
import type { NestMiddleware } from '@nestjs/common';

const HEADER = 'x-demo-lose-answer';

/** A browser that repeats a request does so within the second; older ones may be forgotten. */
const MOST_REMEMBERED = 100;

@Injectable()
export class LoseAnswer implements NestMiddleware<IncomingMessage, ServerResponse> {
  private readonly seen = new Set<unknown>();

  /**
   * The header's value is a new one for each click, since a browser that loses a connection which had
   * served others before sends the request again by itself, a POST too, and tells nobody. That is one
   * more reason to have keys; but the page shows what its visitor does, and so the repetition is cut
   * off before it does anything.
   */
  use({ headers }: IncomingMessage, response: ServerResponse, next: () => void): void {
    const click = headers[HEADER];
    if (click === undefined) return next();
    if (this.seen.has(click)) return cut(response);
    this.remember(click);
    const cutInstead = (): boolean => {
      cut(response);
      return false;
    };
    Object.assign(response, { flushHeaders: cutInstead, write: cutInstead, end: cutInstead });
    next();
  }

  private remember(click: unknown): void {
    this.seen.add(click);
    const [oldest] = this.seen;
    if (this.seen.size > MOST_REMEMBERED) this.seen.delete(oldest);
  }
}

function cut(response: ServerResponse): void {
  response.socket?.destroy();
}
