/**
 * One request on a connection of its own, and the answer as it came over the wire: the bytes, and
 * every header field for itself. `fetch` would decode the one and join the other.
 */
import { request } from 'node:http';
import type { Agent, IncomingMessage, OutgoingHttpHeaders } from 'node:http';

export interface Sent {
  /** Default: POST. */
  readonly method?: string;
  /** The `Idempotency-Key` field as it is. */
  readonly key?: string;
  /** A list is sent as several fields. */
  readonly headers?: OutgoingHttpHeaders;
  /** Text and bytes are sent as they are, without a Content-Type of their own; everything else as JSON. */
  readonly body?: unknown;
  /** Default: a new connection. */
  readonly agent?: Agent;
}

export interface Answer {
  readonly status: number;
  /** By lower-case name, every field for itself. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly body: Buffer;
  readonly text: string;
  readonly trailers: Readonly<Record<string, string | undefined>>;
}

export function send(url: string, { method = 'POST', key, headers = {}, body, agent }: Sent = {}): Promise<Answer> {
  const raw = typeof body === 'string' || body instanceof Uint8Array;
  const bytes = body === undefined || raw ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sending = request(url, {
      method,
      agent: agent ?? false,
      headers: {
        ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }),
        'content-length': bytes === undefined ? 0 : Buffer.byteLength(bytes),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
        ...headers,
      },
    });
    sending.on('error', reject);
    sending.on('response', (response) => void read(response).then(resolve, reject));
    sending.end(bytes);
  });
}

/** The problem's code, or the `code` of whatever JSON it is. */
export function codeOf(answer: Answer): unknown {
  return (json(answer) as { code?: unknown }).code;
}

export function json(answer: Answer): unknown {
  return JSON.parse(answer.text);
}

export function field(answer: Answer, name: string): string | undefined {
  return answer.headers[name]?.join(', ');
}

export function isReplay(answer: Answer): boolean {
  return field(answer, 'idempotent-replayed') === 'true';
}

async function read(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  return {
    status: response.statusCode ?? 0,
    headers: response.headersDistinct as Answer['headers'],
    body,
    text: body.toString('utf8'),
    trailers: response.trailers,
  };
}
