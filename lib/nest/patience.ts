/** How long one client would wait for an answer in the making, and whether it is still there. */
import type { ServerResponse } from 'node:http';
import { parseDictionary } from 'structured-headers';
import { hasClosed } from '../http/http2.js';
import type { Exchange } from '../http/request-facts.js';
import type { ResolvedRoute } from './resolve-options.js';

export interface Patience {
  readonly waitMs: number;
  /** The `wait` preference that was honoured, in seconds: to be told with `Preference-Applied` (RFC 7240, section 3). */
  readonly applied: number | undefined;
}

/** `Prefer: wait=n` shortens the route's wait, and never makes one. */
export function patienceOf({ waitMs }: ResolvedRoute, { request }: Exchange): Patience {
  if (waitMs === 0) return { waitMs, applied: undefined };
  const preferred = preferredWait(request.header('prefer'));
  return preferred === undefined ? { waitMs, applied: undefined } : { waitMs: Math.min(waitMs, preferred * 1000), applied: preferred };
}

/** Seconds (RFC 7240, section 4.3). What can't be read is ignored, as the RFC wants it (section 2). */
function preferredWait(fields: readonly string[]): number | undefined {
  try {
    const wait = parseDictionary(fields.join(', ')).get('wait')?.[0];
    return typeof wait === 'number' && Number.isInteger(wait) && wait >= 0 ? wait : undefined;
  } catch {
    return undefined;
  }
}

/** Its signal aborts when the client goes, and is made when somebody asks for it; `release` stops looking. */
export function presenceOf(response: ServerResponse): { readonly signal: AbortSignal; release(): void } {
  let gone: AbortController | undefined;
  const leave = (): void => gone?.abort();
  return {
    get signal() {
      if (gone === undefined) {
        gone = new AbortController();
        if (hasClosed(response)) leave();
        response.once('close', leave);
      }
      return gone.signal;
    },
    release: () => void response.removeListener('close', leave),
  };
}
