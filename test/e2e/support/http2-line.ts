/** One HTTP/2 connection, and requests on it with the answers as they came over the wire. */
import { connect, constants } from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, SecureClientSessionOptions } from 'node:http2';
import type { Answer, Sent } from './wire.js';

export type SentOverHttp2 = Omit<Sent, 'agent'>;

export class Http2Line {
  readonly #session: ClientHttp2Session;

  constructor(url: string, options: SecureClientSessionOptions = {}) {
    this.#session = connect(url, options);
    this.#session.on('error', () => undefined); // each of its requests hears of it
  }

  async send(path: string, sent: SentOverHttp2 = {}): Promise<Answer> {
    return readAnswer(this.begin(path, sent));
  }

  /** Sends a request, and leaves its answer to the caller. */
  begin(path: string, { method = 'POST', key, headers = {}, body }: SentOverHttp2 = {}): ClientHttp2Stream {
    const raw = typeof body === 'string' || body instanceof Uint8Array;
    const bytes = body === undefined || raw ? body : JSON.stringify(body);
    const stream = this.#session.request(
      {
        [constants.HTTP2_HEADER_METHOD]: method,
        [constants.HTTP2_HEADER_PATH]: path,
        ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
        ...headers,
      },
      { endStream: bytes === undefined },
    );
    stream.on('error', () => undefined); // whoever reads it hears of it
    if (bytes !== undefined) stream.end(bytes);
    return stream;
  }

  /** Takes the connection down, with all that is on its way. */
  destroy(): void {
    this.#session.destroy();
  }
}

/**
 * Rejects where the answer did not come to its end.
 *
 * @param until the body is not read before
 */
export async function readAnswer(stream: ClientHttp2Stream, until?: Promise<void>): Promise<Answer> {
  const ending = new Promise<IncomingHttpHeaders>((resolve) => void stream.once('trailers', resolve).once('close', () => resolve({})));
  const head = await new Promise<IncomingHttpHeaders>((resolve, reject) => {
    stream.once('response', resolve);
    stream.once('close', () => reject(new Error(`The stream was reset: ${stream.rstCode}`)));
  });
  await until;
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const trailers = (await ending) as Answer['trailers'];
  if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) throw new Error(`The stream was reset: ${stream.rstCode}`);
  const body = Buffer.concat(chunks);
  const { [constants.HTTP2_HEADER_STATUS]: status, ...fields } = head;
  return {
    status: Number(status),
    headers: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, [value ?? []].flat()])),
    body,
    text: body.toString('utf8'),
    trailers,
  };
}
