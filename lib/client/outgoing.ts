/** The request as `fetch` was asked for it, to be sent as often as its body allows. */

export interface Outgoing {
  /** In upper case, to be compared. */
  readonly method: string;
  readonly headers: Headers;
  readonly callerSignal: AbortSignal | null | undefined;
  readonly repeatable: boolean;
  /** Somebody has read its body before, so it can't be sent at all. */
  readonly used: boolean;
  /**
   * What to call `fetch` with, to be ended by `own` or by the caller, who may do so even when the call is
   * over and its answer still on its way. A `Request` gives a copy of itself away, and keeps its body for the next time.
   */
  parts(own: AbortSignal): [string | URL | Request, RequestInit];
  /**
   * Throws what `fetch` would throw for a request that is none: an address that can't be parsed, a
   * GET with a body. Thrown by `fetch` it would look like a network error, and be tried again in vain.
   */
  check(): void;
}

export function outgoing(input: string | URL | Request, init: RequestInit): Outgoing {
  const request = typeof input === 'object' && 'headers' in input ? input : undefined;
  const headers = new Headers(init.headers ?? request?.headers);
  const callerSignal = init.signal === undefined ? request?.signal : init.signal;
  const repeatable = !isStream(init.body);
  return {
    method: (init.method ?? request?.method ?? 'GET').toUpperCase(),
    headers,
    callerSignal,
    repeatable,
    used: !!request?.bodyUsed && (init.body ?? null) === null,
    parts(own) {
      // Browsers before 2024 can't join signals. There the caller's ends the call, but not an answer's body after it.
      const signal = callerSignal && AbortSignal.any ? AbortSignal.any([callerSignal, own]) : own;
      return [request?.bodyUsed === false ? request.clone() : input, { ...init, headers, signal }];
    },
    check() {
      if (request === undefined && repeatable) new Request(input, { ...init, signal: null });
    },
  };
}

/** A web stream, or one of Node's, or a generator. A Blob and FormData can be read again. */
function isStream(body: unknown): boolean {
  return typeof body === 'object' && body !== null && ('getReader' in body || Symbol.asyncIterator in body);
}
