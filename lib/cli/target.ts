/**
 * Which database, told from the arguments and the environment, and how it is named in messages:
 * never by its URL, which has a password in it.
 */
import pg from 'pg';
import type { PoolConfig } from 'pg';
import { UsageError } from './exit-codes.js';

export interface Target {
  readonly config: PoolConfig;
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Takes what must not be seen out of a text that others wrote. */
  scrub(text: string): string;
}

/** A server that drops packets would keep the operator waiting for minutes. */
const CONNECT_TIMEOUT_MS = 10_000;

const SCHEME = /^(postgres|postgresql|socket):|^\//;

const WITHOUT_URL =
  'No database was named. Set DATABASE_URL, or give --url postgres://user@host:5432/database (with the password in PGPASSWORD or ~/.pgpass: ' +
  'arguments can be seen by others on this machine). The variables PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE do as well.';

/** @throws UsageError */
export function targetOf(url: string | undefined, env: NodeJS.ProcessEnv): Target {
  const connectionString = url || undefined; // an empty DATABASE_URL is none
  if (connectionString === undefined && !env['PGHOST'] && !env['PGDATABASE']) throw new UsageError(WITHOUT_URL);
  if (connectionString !== undefined) checkForm(connectionString);
  const config: PoolConfig = { connectionString, connectionTimeoutMillis: CONNECT_TIMEOUT_MS };
  const { host, port, database = '', user = '', password } = settingsOf(config);
  return { config, host, port, database, user, scrub: (text) => scrubbed(text, password) };
}

/** As the driver understands them. It opens no connection for that. */
function settingsOf(config: PoolConfig): pg.Client {
  try {
    return new pg.Client(config);
  } catch (error) {
    const file = missingFile(error);
    if (file !== undefined) throw new UsageError(`The database's URL names the file ${file}, which can't be read.`);
    throw new UsageError(`The database's URL can't be read. ${HOW_TO_WRITE_IT}`); // the driver's message quotes it
  }
}

const HOW_TO_WRITE_IT =
  'Write postgres://user:password@host:5432/database, with whatever is no letter or digit in user and password percent-encoded: @ as %40, / as %2F, # as %23.';

/** An `@` behind the host is a piece of a password that was not encoded, which would be taken for a host or a database, and told as such. */
function checkForm(url: string): void {
  if (!SCHEME.test(url)) throw new UsageError(`The database's URL does not begin with postgres://. ${HOW_TO_WRITE_IT}`);
  const [, behindHost = ''] = /^postgres(?:ql)?:\/\/[^/?#]*(.*)$/s.exec(url) ?? [];
  if (behindHost.includes('@')) throw new UsageError(`The database's URL has an @ behind its host. ${HOW_TO_WRITE_IT}`);
}

function missingFile(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('path' in error)) return undefined;
  return typeof error.path === 'string' ? error.path : undefined;
}

/** Greedy: whatever stands between the scheme and the last `@` of a word. */
const CREDENTIALS = /(postgres(?:ql)?:\/\/)\S*@/gi;

/** Also for what was typed and never became a target, such as a URL in the wrong place. */
export function scrubbed(text: string, password?: unknown): string {
  const without = text.replace(CREDENTIALS, '$1***@');
  if (typeof password !== 'string' || password === '') return without;
  return without.replaceAll(password, '***').replaceAll(encodeURIComponent(password), '***');
}
