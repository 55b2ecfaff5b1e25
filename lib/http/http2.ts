/**
 * Where a response of HTTP/2 is unlike one of HTTP/1.1. Node's compatibility API gives it the same methods,
 * and no word for a client that has gone; and what is broken off looks whole unless it is broken off with an error.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';

/** What only they have. */
interface OnStream {
  readonly stream?: ServerHttp2Stream;
}

export function isHttp2({ req }: ServerResponse): boolean {
  return req.httpVersionMajor === 2;
}

/** The words beside the status. HTTP/2 has none (RFC 9113, section 8.3.2), and Node warns of whoever reads or sets them there. */
export function reasonOf(response: ServerResponse): string | undefined {
  return isHttp2(response) ? undefined : response.statusMessage;
}

export function setReason(response: ServerResponse, reason: string | undefined): void {
  if (!isHttp2(response)) response.statusMessage = reason as string;
}

/** Whether the response has closed, before its end or after it. What the tap shows of it counts. */
export function hasClosed(response: ServerResponse): boolean {
  return (response.destroyed as boolean | undefined) ?? (response as OnStream).stream?.destroyed ?? false;
}

/** Whether content follows the head. It may be empty all the same, where no length was told. */
export function announcesContent(request: IncomingMessage): boolean {
  return (request as OnStream).stream?.endAfterHeaders === false;
}

/** For `destroy`: with an error the client is told that there should have been more. */
export const BROKEN_OFF = new Error('The answer was broken off.');
