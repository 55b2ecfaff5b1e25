/** From what the driver, Postgres or the store threw to one sentence that names the way out. */
import { isIdempotencyError } from '../contract/errors.js';
import { GaveUp } from '../store/patience.js';
import { CliError, EXIT } from './exit-codes.js';
import type { Target } from './target.js';

/** What Node and Postgres say by a code, as the end of a sentence that begins with the server. */
const FAULTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses connections. Is it running, and are host and port right?',
  ENOTFOUND: 'has no address. Is the host spelt right?',
  EAI_AGAIN: 'has no address right now. Does name resolution work here?',
  ENOENT: 'has no socket there. Is it running?',
  ECONNRESET: 'broke the connection off. Is it Postgres that listens there, and does it want TLS (?sslmode=require)?',
  EPIPE: 'broke the connection off. Try again.',
  ETIMEDOUT: 'does not answer. Is it running, and does a firewall let this machine through?',
  EHOSTUNREACH: "can't be reached from here. Does a firewall or a network policy stand in between?",
  ENETUNREACH: "can't be reached from here. Is this machine in the right network?",
  DEPTH_ZERO_SELF_SIGNED_CERT: 'has a certificate that it signed itself. Name its authority: ?sslrootcert=/path/to/ca.pem.',
  SELF_SIGNED_CERT_IN_CHAIN: 'has a certificate of an authority that is not known here. Name it: ?sslrootcert=/path/to/ca.pem.',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'has a certificate of an authority that is not known here. Name it: ?sslrootcert=/path/to/ca.pem.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'has a certificate for another host name. Use the name that the certificate has.',
  '25006': 'is read-only, as a standby is. Name the primary.',
  '28000': 'does not let this user in. Is there such a role, and does pg_hba.conf allow it from here?',
  '28P01': 'does not take this password. Look at user and password.',
  '3D000': 'has no such database. Look at the name behind the last slash of the URL.',
  '42501': 'does not give this user the right. Use the role that owns the tables, or grant it.',
  '53300': 'has no connection left. Try again, or raise max_connections.',
  '55P03': 'has somebody else at work on these tables, who has not let go in time. Try again, or wait longer with --timeout.',
  '57014': 'ended the statement, by its statement_timeout perhaps.',
  '57P03': 'is starting up or shutting down. Try again.',
};

/** The driver has no codes for these. */
const WORDINGS: readonly (readonly [pattern: RegExp, fault: string])[] = [
  [/timeout expired|connection timeout|timeout exceeded/i, FAULTS['ETIMEDOUT']!],
  [/does not support SSL/i, 'does not speak TLS. Leave sslmode out, or set it to disable.'],
  [/password must be a string/i, 'wants a password. Put it into PGPASSWORD, ~/.pgpass or DATABASE_URL.'],
];

/** Whatever a command came to. What the store could not do is told by what kept it from doing it. */
export function explained(error: unknown, target: Target): CliError {
  if (error instanceof CliError) return error;
  if (!isIdempotencyError(error)) return new CliError('UNEXPECTED', EXIT.failed, `This should not have happened: ${said(error, target)}`);
  if (error.code === 'IDEMPOTENCY_STORE_UNAVAILABLE') return refusal(error.cause, target);
  return new CliError(error.code, EXIT.failed, error.message);
}

/** What the driver threw, for whoever uses it without the store. */
export function refusal(cause: unknown, target: Target): CliError {
  return new CliError('IDEMPOTENCY_STORE_UNAVAILABLE', EXIT.failed, sentence(cause, target));
}

function sentence(cause: unknown, target: Target): string {
  const { host, port, database, user } = target;
  const server = `Postgres at ${host}:${port} (database ${database || 'not named'}, user ${user || 'not named'})`;
  if (cause instanceof GaveUp) return `${server} did not answer in time. Wait longer with --timeout.`;
  const words = said(cause, target);
  const code = codeOf(cause);
  const fault = (code === undefined ? undefined : FAULTS[code]) ?? WORDINGS.find(([pattern]) => pattern.test(words))?.[1];
  const quoted = words === '' ? '' : ` (${words})`; // several addresses that were tried make an error without a message
  return fault === undefined ? `${server} failed${quoted}.` : `${server} ${fault}${quoted}`;
}

function said(error: unknown, target: Target): string {
  return target.scrub(error instanceof Error ? error.message : String(error));
}

function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
