/** What Postgres counts itself: bytes of its log exactly and at once, all else with a delay of about a second. */
import type { BenchDatabase } from './server.js';

/** The position in the log, in bytes. Not delayed. */
export async function walPosition(database: BenchDatabase): Promise<number> {
  const [row] = await database.run<{ bytes: number }>(`select (pg_current_wal_insert_lsn() - '0/0')::float8 as bytes`);
  return row?.bytes ?? 0;
}

export interface CountsSoFar {
  /** Of connections; `null` before Postgres 18, which did not tell them apart. */
  readonly fsyncs: number | null;
  readonly fsyncsInAll: number;
  readonly transactions: number;
  readonly walRecords: number;
  readonly fullPageImages: number;
}

/**
 * A connection reports its counts when a transaction of its ends, but only if the last report was this
 * long ago. So a count is right after a pause and a few more requests on every connection.
 */
export const REPORTS_EVERY_MS = 1_000;

/** From this version on writes of the log are told by the kind of process. */
const TELLS_PROCESSES = 180_000;

const FSYNCS_BY_PROCESS = `
  (select sum(fsyncs) from pg_stat_io where object = 'wal' and backend_type = 'client backend')::float8 as "fsyncs",
  (select sum(fsyncs) from pg_stat_io where object = 'wal')::float8 as "fsyncsInAll"`;
const FSYNCS_IN_ALL = `null::float8 as "fsyncs", (select wal_sync from pg_stat_wal)::float8 as "fsyncsInAll"`;

export async function countsSoFar(database: BenchDatabase): Promise<CountsSoFar> {
  const [version] = await database.run<{ number: number }>(`select current_setting('server_version_num')::int as number`);
  const [counts] = await database.run<CountsSoFar>(`
    select ${(version?.number ?? 0) >= TELLS_PROCESSES ? FSYNCS_BY_PROCESS : FSYNCS_IN_ALL},
           (select xact_commit from pg_stat_database where datname = current_database())::float8 as "transactions",
           wal_records::float8 as "walRecords", wal_fpi::float8 as "fullPageImages"
      from pg_stat_wal`);
  if (counts === undefined) throw new Error('Postgres told no counts.');
  return counts;
}
