/** A `fetch` that may be repeated without doing anything twice. Here are its outward form and its promises; call.ts has the story. */
import { sendCall } from './call.js';
import { keptIn } from './intents.js';
import { resolveOptions } from './options.js';
import type { IdempotentFetchOptions } from './options.js';

export interface IdempotentRequestInit extends RequestInit {
  /**
   * Names the logical call, such as `checkout:42`. Its key is kept in the key store until its final
   * answer has come, so that a call of the same name goes on where an earlier one was cut off.
   */
  readonly intent?: string;
  /** A key of the caller's own, as good as one in `headers`. Nothing is kept for it. */
  readonly idempotencyKey?: string;
  /**
   * Hands a successful answer over at its head, as `fetch` does, though the request has a key. Whether
   * its body comes to its end is then the caller's to see, and a kept key the caller's to delete.
   */
  readonly streaming?: boolean;
}

export type IdempotentFetch = (input: string | URL | Request, init?: IdempotentRequestInit) => Promise<Response>;

/**
 * Returns a function to call like `fetch`. Every answer is returned, whatever its status, once no retry
 * is left or worth it. It rejects with an `IdempotentFetchError` where the last attempt had no answer (an
 * earlier one's would say nothing about it), with the signal's reason where the caller aborted, and with
 * a `TypeError` for a request that is none.
 */
export function idempotentFetch(options: IdempotentFetchOptions = {}): IdempotentFetch {
  const resolved = resolveOptions(options);
  const intents = keptIn(resolved.keyStore, resolved.newKey);
  return (input, init = {}) => sendCall(resolved, intents, input, init);
}
