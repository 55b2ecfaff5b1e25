/**
 * What the application is shown of a response whose bytes are held: its head as sent and its end as
 * reached, once it has written them, and the client as present, since the work goes on without it.
 */
import type { ServerResponse } from 'node:http';
import type { Method, ResponseCover } from './response-cover.js';

/** They all refuse once the head has been sent; so does `setHeaders`, which calls the first of them for each. */
const HEADER_METHODS = ['setHeader', 'appendHeader', 'removeHeader'] as const;
const REVEALED = [...HEADER_METHODS, 'headersSent', 'writableEnded', 'closed'] as const;

export class ApplicationView {
  /** Those who have heard of a client that had gone before the tap began. */
  readonly #closeBefore: readonly unknown[] | undefined;
  #closeWithheld = false;

  constructor(
    private readonly response: ServerResponse,
    private readonly cover: ResponseCover,
  ) {
    if (response.destroyed) {
      this.#closeBefore = response.rawListeners('close');
      this.withholdClose();
    }
  }

  get closeWithheld(): boolean {
    return this.#closeWithheld;
  }

  showHeadSent(): void {
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

  /** From here on the response looks as it is. */
  reveal(): void {
    this.cover.lift(REVEALED);
    if (this.#closeWithheld) this.response.destroyed = true;
  }

  /** The 'close' that was withheld, once, to all who have not heard it. */
  tellClose(): void {
    if (!this.#closeWithheld) return;
    this.#closeWithheld = false;
    if (this.#closeBefore === undefined) {
      this.response.emit('close');
      return;
    }
    for (const listener of this.response.rawListeners('close')) {
      if (!this.#closeBefore.includes(listener)) Reflect.apply(listener as Method, this.response, []);
    }
  }
}

function refuseHeader(): never {
  throw headersSentError();
}

/** The error that Node throws in the same place; frameworks look at its code. */
export function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), { code: 'ERR_HTTP_HEADERS_SENT' });
}
