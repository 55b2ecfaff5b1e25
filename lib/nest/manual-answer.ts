/** An answer that a person gives in an execution's place. */
import { validateHeaderValue } from 'node:http';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { faultInReplayHeaders } from './header-names.js';

export interface ManualAnswer {
  /** The HTTP status code, 200 to 599. */
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** A text or bytes as they are, anything else as JSON. `undefined`: an empty answer. */
  readonly body?: unknown;
}

/** @throws TypeError for what is no answer */
export function recordedAnswer({ status, headers = {}, body }: ManualAnswer): RecordedResponse {
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new TypeError('The status of an answer is a whole number from 200 to 599.');
  checkHeaders(headers);
  const given = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  const isTyped = given.some(([name]) => name === 'content-type');
  const { bytes, type } = content(body);
  return { status, headers: isTyped || type === undefined ? given : [['content-type', type], ...given], body: bytes };
}

/** What Node would refuse to send, or would send wrongly, is refused here: it would fail in every replay. */
function checkHeaders(headers: NonNullable<ManualAnswer['headers']>): void {
  const fault = faultInReplayHeaders(Object.keys(headers));
  if (fault !== undefined) throw new TypeError(`The list of an answer's headers ${fault}.`);
  for (const [name, value] of Object.entries(headers)) for (const line of [value].flat()) validateHeaderValue(name, line);
}

function content(body: unknown): { readonly bytes: Buffer; readonly type: string | undefined } {
  if (body === undefined) return { bytes: Buffer.alloc(0), type: undefined };
  if (typeof body === 'string') return { bytes: Buffer.from(body), type: 'text/plain; charset=utf-8' };
  if (body instanceof Uint8Array) return { bytes: Buffer.from(body), type: 'application/octet-stream' };
  return { bytes: Buffer.from(JSON.stringify(body)), type: 'application/json; charset=utf-8' };
}
