/**
 * What the application is shown of a response whose bytes are held: its head as sent and its end as
 * reached, once it has written them, and the client as present, since the work goes on without it.
 */
import type { ServerResponse } from 'node:http';
import type { Method, ResponseCover } from './response-cover.js';

/** They all refuse once the head has been sent. */
const HEADER_METHODS = ['setHeader', 'setHeaders', 'appendHeader', 'removeHeader'] as const;

export class ApplicationView {
  /** Those who have heard of a client that had gone before the tap began. */
  readonly #closeBefore: readonly unknown[] | undefined;
  readonly #shown: string[] = [];
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
    this.#show('headersSent', true);
    for (const name of HEADER_METHODS) this.cover.put(name, refuseHeader);
  }

  showEnded(): void {
    this.#show('writableEnded', true);
  }

  /** The response has closed; nobody is told before `reveal`. */
  withholdClose(): void {
    this.#closeWithheld = true;
    this.response.destroyed = false;
    this.#show('closed', false);
  }

  /** From here on the response looks as it is. */
  reveal(): void {
    for (const name of this.#shown.splice(0)) Reflect.deleteProperty(this.response, name);
    this.cover.lift(HEADER_METHODS);
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

  #show(name: 'headersSent' | 'writableEnded' | 'closed', value: boolean): void {
    Object.defineProperty(this.response, name, { configurable: true, value });
    this.#shown.push(name);
  }
}

function refuseHeader(): never {
  throw headersSentError();
}

/** The error that Node throws in the same place; frameworks look at its code. */
export function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), { code: 'ERR_HTTP_HEADERS_SENT' });
}
