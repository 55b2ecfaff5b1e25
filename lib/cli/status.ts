/** Whether all is well, and what to do where it is not. A deploy may wait for its exit code. */
import type { StoreStats } from '../contract/record.js';
import { adviceOn } from './advice.js';
import { inspected, migrationsOf, withDatabase, type Access, type Database, type Migrations } from './database.js';
import { CliError, EXIT } from './exit-codes.js';
import { explained } from './failures.js';
import type { Report } from './report.js';
import { facts } from './table.js';
import { ago, grouped } from './wording.js';

interface Status {
  readonly reachable: true;
  readonly database: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly serverVersion: string;
  readonly readOnly: boolean;
  readonly schema: string;
  readonly migrations: Migrations;
  /** Whether the tables are what this version needs. */
  readonly current: boolean;
  /** `null` without tables. */
  readonly synchronousCommit: string | null;
  /** `null` without tables, or when they could not be counted; the advice says why. */
  readonly records: StoreStats | null;
  readonly advice: readonly string[];
}

export async function status(access: Access, heading: (text: string) => string): Promise<Report> {
  try {
    return await withDatabase(access, (database) => look(database, heading));
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    const document = { reachable: false, schema: access.schema, error: { code: error.code, message: error.message }, advice: [] };
    return { document, text: error.message, exitCode: error.exitCode };
  }
}

async function look(database: Database, heading: (text: string) => string): Promise<Report> {
  const { target, schema, catalogue } = database;
  const server = await catalogue.server();
  const migrations = await migrationsOf(database);
  const tables = await inspected(database);
  const fault = tables instanceof CliError ? tables : undefined;
  const synchronousCommit = tables instanceof CliError ? undefined : tables.synchronousCommit;
  const records = fault === undefined ? await counts(database) : undefined;
  const document: Status = {
    reachable: true,
    database: target.database,
    host: target.host,
    port: target.port,
    user: target.user,
    serverVersion: server.version,
    readOnly: server.readOnly,
    schema,
    migrations,
    current: fault === undefined,
    synchronousCommit: synchronousCommit ?? null,
    records: records instanceof CliError ? null : (records ?? null),
    advice: adviceOn({ server, fault, synchronousCommit, records }),
  };
  return { document, text: textOf(document, server.now, heading), exitCode: fault?.exitCode ?? EXIT.ok };
}

/** A table that is too large to be counted in time must not stop a deploy that only asks for migrations. */
async function counts({ store, target }: Database): Promise<StoreStats | CliError> {
  try {
    return await store.stats();
  } catch (error) {
    return explained(error, target);
  }
}

function textOf(found: Status, now: Date, heading: (text: string) => string): string {
  const { migrations, records } = found;
  const lines = facts(
    [
      ['Database', `${found.database} at ${found.host}:${found.port}, user ${found.user}`],
      ['Postgres', `${found.serverVersion}${found.readOnly ? ', read-only' : ''}`],
      ['Schema', found.schema],
      ['Tables', found.current ? 'current' : 'not current'],
      ['Pending', migrations.pending.join(', ') || undefined],
      ['synchronous_commit', found.synchronousCommit ?? undefined],
      ['Records', records === null ? undefined : countsOf(records)],
      ['Oldest lost', records?.oldestLost && `${records.oldestLost.toISOString()}, ${ago(records.oldestLost, now)}`],
    ],
    heading,
  );
  if (found.advice.length === 0) return `${lines}\n\nAll is well.`;
  return `${lines}\n\n${heading('What to do')}\n${found.advice.map((advice) => `- ${advice}`).join('\n')}`;
}

function countsOf({ running, lost, open, completed, sealed, expired }: StoreStats): string {
  return Object.entries({ running, lost, open, completed, sealed, expired })
    .map(([state, count]) => `${grouped(count)} ${state}`)
    .join(', ');
}
