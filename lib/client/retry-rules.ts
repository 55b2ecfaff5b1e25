/** What an answer means for a retry, and how long to wait before it. The one table of both; who sends and waits is told elsewhere. */

/**
 * `final`: the answer to this key. `retry`: the same request may be answered otherwise in a moment.
 * `open`: asking again at once won't help, and it does not tell what became of an earlier attempt,
 * so that a later call with the same intent must use the same key.
 */
export type Meaning = 'final' | 'retry' | 'open';

/** Too slow, too early, too many (RFC 9110, 15.5.9; RFC 8470, 5.2; RFC 6585, 4): servers ask to be asked again. */
const ASK_AGAIN = [408, 425, 429];
/** Who is not logged in is refused before any handler is asked, and may go on with the same key; what is not implemented is not mended by a wait. */
const NO_USE = [401, 403, 407, 501, 505, 511];
/** Told by the server's business or by its keys; only a code in the body tells which. */
const CONFLICTS = [409, 422];

/** @param body as text; looked at where the status alone does not tell */
export function meaningOf(status: number, body: string): Meaning {
  if (NO_USE.includes(status)) return 'open';
  if (status >= 500 || ASK_AGAIN.includes(status)) return 'retry';
  const code = CONFLICTS.includes(status) ? codeIn(body) : '';
  if (code === 'IDEMPOTENCY_KEY_IN_USE') return 'retry';
  return code.startsWith('IDEMPOTENCY_') ? 'open' : 'final';
}

/** The code of problem details (RFC 9457) or of Nest's own error format: they have it at the same place. */
function codeIn(body: string): string {
  try {
    return String((JSON.parse(body) as { readonly code?: unknown }).code);
  } catch {
    return ''; // no JSON object: somebody else's answer
  }
}

/**
 * Full jitter (AWS Architecture Blog, “Exponential Backoff and Jitter”): clients that failed together
 * must not come back together. What the server asked for comes on top, or they would all come at its end.
 *
 * @param failed attempts so far
 */
export function delayMs(
  failed: number,
  retryAfterMs: number,
  { baseDelayMs, maxDelayMs, random }: { readonly baseDelayMs: number; readonly maxDelayMs: number; readonly random: () => number },
): number {
  return retryAfterMs + random() * Math.min(maxDelayMs, baseDelayMs * 2 ** (failed - 1));
}

/**
 * `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which the server meant by its own clock, and
 * told by its `Date`. What is neither, or was not sent, asks for no wait.
 */
export function retryAfterMs(headers: Headers, nowMs: number): number {
  const value = headers.get('retry-after') ?? '';
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  if (!value.endsWith('GMT')) return 0; // engines read dates into the strangest texts
  const wait = Date.parse(value) - (Date.parse(headers.get('date') ?? '') || nowMs);
  return Math.max(0, wait) || 0;
}
