/**
 * What went wrong, told by how it looks: an application's driver may be another copy of `pg` than
 * ours, so `instanceof` says nothing about its errors.
 */

interface ServersError {
  readonly code: string;
}

/** Postgres' own error, as against the network's or the driver's. */
export function isFromServer(error: unknown): error is ServersError {
  return typeof error === 'object' && error !== null && 'severity' in error && typeof codeOf(error) === 'string';
}

/** Postgres says that it goes, or that the connection is not what it was. */
export function endsConnection(error: unknown): boolean {
  return !isFromServer(error) || /^(08|57P|25P0[34]|58|XX)/.test(error.code);
}

/** A serialization failure or a deadlock: Postgres has undone it, and another try may not meet it. */
export function isTransient(error: unknown): boolean {
  return isFromServer(error) && (error.code === '40001' || error.code === '40P01');
}

/** How a statement of ours fails on purpose, where it must not come through. */
export const DIVISION_BY_ZERO = '22012';

/** “Current transaction is aborted”: it says nothing of what has aborted it. */
export function isOfAbortedTransaction(error: unknown): boolean {
  return isFromServer(error) && error.code === '25P02';
}

export function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}
