/**
 * What the application is shown of a response whose bytes are held: its head as sent and its end as
 * reached, once it has written them, and the client as present, since the work goes on without it.
 *
 * Node itself says whether a head has been sent, and refuses another one, by `_header`, the text of the
 * head that it wrote. So that is where we say it: no member has to be covered, and frameworks and
 * middlewares that look there see the same. Whoever in Node would send that text (`write`, `end`,
 * `flushHeaders`) is covered as long as it is not the real one. The end can't be said in Node's words:
 * by `finished` it also takes an answer for gone (`writableFinished`, which handlers wait for), closes
 * its connection as idle when the server closes, and goes on to the next one in a pipeline.
 */
import { OutgoingMessage, type ServerResponse } from 'node:http';
import { hasClosed } from './http2.js';
import type { Method, ResponseCover } from './response-cover.js';

/** Of a response of another make (HTTP/2). They refuse once the head has been sent; so does `setHeaders`, which calls the first of them. */
const HEADER_METHODS = ['setHeader', 'appendHeader', 'removeHeader'] as const;
const REVEALED = [...HEADER_METHODS, 'headersSent', 'writableEnded', 'closed'] as const;

interface NodesOwn {
  /** `null` until the head is written; some that make responses of their own begin with `''`. */
  _header: string | null;
}

/**
 * Nobody sends it. Should somebody who goes past all covers write to the response by functions of Node's that he
 * took off it before, a client is told that there is no answer, and asks again.
 */
const CONCEALED_HEAD = 'HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

export class ApplicationView {
  /** Those who have heard of a client that had gone before the tap began. */
  readonly #closeBefore: readonly unknown[] | undefined;
  #closeWithheld = false;
  #finishWithheld = false;
  /** What was in place of `CONCEALED_HEAD`. */
  #headBefore: string | null | undefined;

  constructor(
    private readonly response: ServerResponse,
    private readonly cover: ResponseCover,
  ) {
    if (hasClosed(response)) {
      this.#closeBefore = response.rawListeners('close');
      this.withholdClose();
    }
  }

  get closeWithheld(): boolean {
    return this.#closeWithheld;
  }

  showHeadSent(): void {
    this.#putHead();
    if (this.response.headersSent) return;
    this.cover.show('headersSent', true);
    for (const name of HEADER_METHODS) this.cover.put(name, refuseHeader);
  }

  showEnded(): void {
    this.cover.show('writableEnded', true);
  }

  /** The response has closed; nobody is told before `reveal`. */
  withholdClose(): void {
    this.#closeWithheld = true;
    this.response.destroyed = false;
    this.cover.show('closed', false);
  }

  /** Over HTTP/2 the end of a client is one of the answer too, as if it had been sent. Whether anybody was told: nobody. */
  withholdFinish(): false {
    this.#finishWithheld = true;
    return false;
  }

  /** From here on the response looks as it is. */
  reveal(): void {
    this.#takeHead();
    this.cover.lift(REVEALED);
    if (this.#closeWithheld) this.response.destroyed = true;
  }

  /** The 'close' that was withheld, once, to all who have not heard it; and what came with it. */
  tellClose(): void {
    if (!this.#closeWithheld) return;
    this.#closeWithheld = false;
    if (this.#finishWithheld) this.response.emit('finish');
    if (this.#closeBefore === undefined) {
      this.response.emit('close');
      return;
    }
    for (const listener of this.response.rawListeners('close')) {
      if (!this.#closeBefore.includes(listener)) Reflect.apply(listener as Method, this.response, []);
    }
  }

  #putHead(): void {
    if (!(this.response instanceof OutgoingMessage) || this.response.headersSent) return;
    const nodes = this.response as unknown as NodesOwn;
    this.#headBefore = nodes._header;
    nodes._header = CONCEALED_HEAD;
  }

  #takeHead(): void {
    if (this.#headBefore === undefined) return;
    const nodes = this.response as unknown as NodesOwn;
    if (nodes._header === CONCEALED_HEAD) nodes._header = this.#headBefore;
    this.#headBefore = undefined;
  }
}

function refuseHeader(): never {
  throw headersSentError();
}

/** The error that Node throws in the same place; frameworks look at its code. */
export function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), { code: 'ERR_HTTP_HEADERS_SENT' });
}
