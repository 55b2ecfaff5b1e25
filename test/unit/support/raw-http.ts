/** Real servers and real clients, where the exact bytes, headers and the moment of hanging up matter. */
import { once } from 'node:events';
import * as http from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../../lib/contract/clock.js';
import { tapResponse } from '../../../lib/http/response-tap.js';
import type { HeldAnswer, Instead, ResponseTap, TapHooks, TapOptions } from '../../../lib/http/response-tap.js';

export interface Answer {
  readonly status: number;
  readonly statusMessage: string;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly trailers: NodeJS.Dict<string>;
  readonly body: Buffer;
  readonly text: string;
}

export class RawServer {
  private constructor(
    private readonly server: http.Server,
    readonly port: number,
  ) {}

  static async start(listener: RequestListener): Promise<RawServer> {
    return RawServer.of(http.createServer(listener));
  }

  static async of(server: http.Server): Promise<RawServer> {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new RawServer(server, (server.address() as AddressInfo).port);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

/** A request on a connection of its own. */
export function open(port: number, options: http.RequestOptions = {}, body?: string | Buffer): http.ClientRequest {
  const request = http.request({ host: '127.0.0.1', port, method: 'POST', agent: false, ...options });
  request.on('error', () => undefined); // tests hang up on purpose
  request.end(body);
  return request;
}

export async function send(port: number, options: http.RequestOptions = {}, body?: string | Buffer): Promise<Answer> {
  const [response] = (await once(open(port, options, body), 'response')) as [IncomingMessage];
  return read(response);
}

export async function read(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const { statusCode = 0, statusMessage = '', headers, rawHeaders, trailers } = response;
  return { status: statusCode, statusMessage, headers, rawHeaders, trailers, body, text: body.toString() };
}

export interface Deferred<T = void> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** The callbacks of the event loop that were due by now have run. */
export async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Hooks that let everything leave, and remember what they were asked. */
export class NotingHooks implements TapHooks {
  readonly calls: string[] = [];
  readonly answer = deferred<HeldAnswer>();
  readonly noAnswer = deferred();

  constructor(private readonly decide: Partial<TapHooks> = {}) {}

  held(answer: HeldAnswer): Promise<Instead | undefined> {
    this.calls.push('held');
    this.answer.resolve(answer);
    return this.decide.held?.(answer) ?? Promise.resolve(undefined);
  }

  unholdable(head: Parameters<TapHooks['unholdable']>[0]): Promise<Instead | undefined> {
    this.calls.push('unholdable');
    return this.decide.unholdable?.(head) ?? Promise.resolve(undefined);
  }

  flowed(): Promise<void> {
    this.calls.push('flowed');
    return this.decide.flowed?.() ?? Promise.resolve();
  }

  unanswered(): void {
    this.calls.push('unanswered');
    this.noAnswer.resolve();
    this.decide.unanswered?.();
  }
}

export function tap(response: ServerResponse, hooks: TapHooks, options: Partial<TapOptions> = {}): ResponseTap {
  return tapResponse(
    response,
    { maxBodyBytes: 1024 * 1024, patienceMs: 60_000, pendingHeaders: {}, clock: systemClock, ...options },
    hooks,
  );
}

/** The members a response has of its own, its prototype and how many listen to it: what a tap must leave as it found it. */
export function traces(response: ServerResponse): unknown {
  const covered = ['writeHead', 'write', 'end', 'flushHeaders', 'addTrailers', 'destroy', 'emit', 'on', 'setHeader', 'setHeaders'];
  const shown = ['appendHeader', 'removeHeader', 'headersSent', 'writableEnded', 'closed'];
  return {
    own: [...covered, ...shown].filter((name) => Object.hasOwn(response, name)),
    kind: Object.getPrototypeOf(response) as unknown,
    listeners: Object.fromEntries(response.eventNames().map((event) => [String(event), response.listenerCount(event)])),
  };
}
