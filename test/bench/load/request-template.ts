/** A request as bytes, made once; only the key in it changes from one to the next. */
import { ORDER } from '../apps/orders.js';
import type { Route } from '../app-protocol.js';

/** Keys are UUIDs, or as long as one. */
export const KEY_CHARACTERS = 36;

export interface RequestTemplate {
  readonly bytes: Buffer;
  /** Where the key goes; `undefined`: the request has none. */
  readonly keyAt: number | undefined;
}

const ORDER_BODY = JSON.stringify(ORDER);

export function post(route: Route, { keyed }: { readonly keyed: boolean }): RequestTemplate {
  const head = `POST ${route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${ORDER_BODY.length}\r\n`;
  if (!keyed) return { bytes: Buffer.from(`${head}\r\n${ORDER_BODY}`), keyAt: undefined };
  const beforeKey = `${head}Idempotency-Key: `;
  return { bytes: Buffer.from(`${beforeKey}${' '.repeat(KEY_CHARACTERS)}\r\n\r\n${ORDER_BODY}`), keyAt: beforeKey.length };
}

export function get(route: Route): RequestTemplate {
  return { bytes: Buffer.from(`GET ${route} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`), keyAt: undefined };
}
