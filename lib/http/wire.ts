/**
 * The way out: the members of the response that we cover, in the order in which an answer uses them.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { BROKEN_OFF, hasClosed, isHttp2 } from './http2.js';
import { setAnswerHead } from './replay.js';
import type { ResponseCover } from './response-cover.js';

export class Wire {
  constructor(
    private readonly response: ServerResponse,
    private readonly cover: ResponseCover,
    /** The headers before the handler. */
    private readonly standing: OutgoingHttpHeaders,
  ) {}

  /** The head alone; with bytes it goes by itself. It stands on the response already. */
  head(flush: boolean): void {
    if (this.response.headersSent) return;
    if (flush) this.cover.below('flushHeaders', []);
    else this.cover.below('writeHead', [this.response.statusCode]);
  }

  /** Whether more may follow at once. A client that has gone makes nobody wait. */
  write(bytes: Buffer): boolean {
    return this.cover.below('write', [bytes]) !== false || hasClosed(this.response);
  }

  end(last: Buffer | undefined): void {
    this.cover.below('end', last && last.length > 0 ? [last] : []);
  }

  /** Another answer, in place of whatever the handler has put on the response. */
  answer(answer: RecordedResponse): void {
    setAnswerHead(this.response, this.standing, answer);
    this.end(answer.body);
  }

  /** Without its end, a client knows that an answer is not whole. */
  cut(args: readonly unknown[] = []): void {
    this.cover.below('destroy', args.length === 0 && isHttp2(this.response) ? [BROKEN_OFF] : args);
  }
}
