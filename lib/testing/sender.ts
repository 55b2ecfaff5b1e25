/** Sends a user's own request over a socket of its own, and reads what a client would see of the answer. */
import { request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Stage } from './stage.js';
import type { Trial } from './trial.js';

/** A request as a client would write it. */
export interface IdempotentRequest {
  readonly method?: string;
  /** Path and query: `'/payments'`. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A text or bytes go as they are; anything else as JSON. */
  readonly body?: unknown;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** `undefined`: the connection broke, and no answer came. */
export type Outcome = Answer | undefined;

export interface Sending {
  readonly trial: Trial;
  readonly gate?: Promise<void>;
  readonly onArrival?: () => void;
}

export function send(stage: Stage, sent: IdempotentRequest, { trial, gate, onArrival = () => undefined }: Sending): Promise<Outcome> {
  const { method = 'POST', url, headers = {}, body } = sent;
  const bytes = bytesOf(body);
  const isJson = body !== undefined && bytes !== body && typeof body !== 'string';
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      host: '127.0.0.1',
      port: stage.port,
      method,
      path: url,
      agent: false,
      headers: { ...(isJson && { 'content-type': 'application/json' }), 'content-length': bytes.length, ...headers },
    });
    request.on('socket', (socket) => {
      socket.once('connect', () => stage.expect(socket.localPort ?? 0, { trial, gate, onArrival }));
    });
    request.on('response', (response) => void readAnswer(response).then(resolve, () => resolve(undefined)));
    request.on('error', (error) => (trial.isDead ? resolve(undefined) : reject(failed(request, error))));
    request.end(bytes);
  });
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
}

function bytesOf(body: unknown): Uint8Array {
  if (body === undefined) return Buffer.alloc(0);
  if (body instanceof Uint8Array) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function failed({ method, path }: ClientRequest, cause: Error): Error {
  return new Error(`${method} ${path} got no answer: ${cause.message}`, { cause });
}
