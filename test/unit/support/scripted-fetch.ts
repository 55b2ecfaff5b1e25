/** A server that answers what a test wrote down for it, and remembers what it was asked. */
import { ManualClock } from '../../support/manual-clock.js';
import { idempotentFetch } from '../../../lib/client/index.js';
import type { IdempotentFetch, IdempotentFetchOptions, RetryEvent } from '../../../lib/client/index.js';

/** An answer, an error that is thrown, or silence until somebody gives up. */
export type Line = Response | Error | 'silence';

export interface Heard {
  /** On the test's clock. */
  readonly at: number;
  readonly key: string | null;
  readonly headers: Headers;
  readonly body: string;
  readonly init: RequestInit;
  readonly input: string | URL | Request;
}

export interface Scene {
  readonly call: IdempotentFetch;
  readonly clock: ManualClock;
  readonly heard: readonly Heard[];
  readonly retries: readonly RetryEvent[];
  /** When the attempts came, as milliseconds from the beginning. */
  times(): number[];
}

/** The last line answers all further attempts too. Half the jitter, so that every pause is known. */
export function scene(lines: readonly Line[], options: IdempotentFetchOptions = {}): Scene {
  const clock = new ManualClock();
  const heard: Heard[] = [];
  const retries: RetryEvent[] = [];
  let newKeys = 0;
  const call = idempotentFetch({
    clock,
    random: () => 0.5,
    newKey: () => `key-${(newKeys += 1)}`,
    onRetry: (event) => retries.push(event),
    async fetch(input, init = {}) {
      const line = lines[Math.min(heard.length, lines.length - 1)];
      const headers = new Headers(init.headers);
      const at = clock.now();
      const asked = new Request(input, init.body && isStream(init.body) ? { ...init, body: null } : init);
      const entry = { at, key: headers.get(options.header ?? 'idempotency-key'), headers, init, input };
      heard.push({ ...entry, body: asked.body === null ? '' : await asked.text() });
      if (line === 'silence') return silence(init.signal);
      if (line instanceof Response) return line.clone();
      throw line;
    },
    ...options,
  });
  return { call, clock, heard, retries, times: () => heard.map(({ at }) => at) };
}

/** An answer with a code in its body, in one of the two formats that servers use. */
export function refusal(
  status: number,
  code: string,
  headers: Record<string, string> = {},
  format: 'problem' | 'nest' = 'problem',
): Response {
  const body =
    format === 'problem' ? { type: 'about:blank', title: 'Refused', status, code } : { statusCode: status, message: 'Refused', code };
  const contentType = format === 'problem' ? 'application/problem+json' : 'application/json';
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': contentType, ...headers } });
}

/** What `fetch` throws when there is no connection. */
export function networkError(): Error {
  return new TypeError('fetch failed');
}

function silence(signal: AbortSignal | null | undefined): Promise<Response> {
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
}

function isStream(body: unknown): boolean {
  return body instanceof ReadableStream || (typeof body === 'object' && body !== null && Symbol.asyncIterator in body);
}
