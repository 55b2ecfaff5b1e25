/**
 * Which outcomes of a handler that began are kept. A kept outcome is every retry's answer; any
 * other one frees the key, so that a retry runs the handler again.
 */
import type { ExecutionSettings } from '../contract/settings.js';

/** `'all'`, or a function that says so for a status and, where the handler threw, its error. */
export type StoreIf = 'all' | ((status: number, error?: unknown) => boolean);

/**
 * Answers about the moment or the caller's credentials rather than about the request: unauthorized,
 * forbidden, time-out, too early, too many requests. The same request may well succeed later.
 */
const PASSING_STATUSES: ReadonlySet<number> = new Set([401, 403, 408, 425, 429]);

function keepsByDefault(status: number): boolean {
  return status < 500 && !PASSING_STATUSES.has(status);
}

/**
 * `keeps` of a route. A function of the user's that fails must not free a key whose work is done,
 * which would charge twice; so the default rule decides in its place and `report` gets the error.
 */
export function outcomePolicy(storeIf: StoreIf | undefined, report: (error: unknown) => void): ExecutionSettings['keeps'] {
  if (storeIf === undefined) return keepsByDefault;
  if (storeIf === 'all') return () => true;
  return (status, error) => {
    try {
      const kept: unknown = storeIf(status, error);
      if (typeof kept === 'boolean') return kept;
      throw new TypeError(`storeIf returned a value of type ${typeof kept}; it must return true or false, and not a promise.`);
    } catch (failure) {
      report(failure);
      return keepsByDefault(status);
    }
  };
}
