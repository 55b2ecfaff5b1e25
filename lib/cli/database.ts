/** A command's way to the records: opened for it, looked at, and closed after it whatever happens. */
import pg from 'pg';
import { systemClock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { StoreFindings } from '../contract/store.js';
import { liveKeysIndexText, migrationTexts } from '../../migrations/texts.js';
import { Catalogue } from '../store/catalogue.js';
import { PgSession } from '../store/pg-session.js';
import { createPostgresStore, type PostgresStore } from '../store/postgres-store.js';
import { deadlineIn } from '../store/session.js';
import { CliError, EXIT } from './exit-codes.js';
import { explained } from './failures.js';
import type { Target } from './target.js';

export interface Access {
  readonly target: Target;
  readonly schema: string;
  /** Longest wait for one statement. */
  readonly timeoutMs: number;
  /** Whether the application limits live keys, for which it needs an index. */
  readonly maxLiveKeys: boolean;
}

export interface Database extends Access {
  readonly store: PostgresStore;
  readonly catalogue: Catalogue;
}

/** @throws CliError for whatever `work` came to */
export async function withDatabase<T>(access: Access, work: (database: Database) => Promise<T>): Promise<T> {
  const { target, schema, timeoutMs } = access;
  // No prepared statements: a transaction pooler in between is no hindrance then.
  const common = { connection: target.config, poolSize: 1, preparedStatements: false, sharedStatements: false, clock: systemClock };
  const application = { pool: new pg.Pool(target.config) }; // for handlers' transactions, of which there are none: it stays empty
  const store = createPostgresStore({ ...common, application, schema, storeTimeoutMs: timeoutMs });
  const session = new PgSession({ ...common, connectTimeoutMs: timeoutMs });
  const catalogue = new Catalogue(session, schema, () => deadlineIn(systemClock, timeoutMs));
  try {
    return await work({ ...access, store, catalogue });
  } catch (error) {
    throw explained(error, target);
  } finally {
    await Promise.all([store.close(), session.close()]);
  }
}

/** The same, for a command that needs the tables. */
export function withTables<T>(access: Access, work: (database: Database) => Promise<T>): Promise<T> {
  return withDatabase(access, async (database) => {
    const findings = await inspected(database);
    if (findings instanceof CliError) throw findings;
    return work(database);
  });
}

export interface Migrations {
  readonly applied: readonly string[];
  readonly pending: readonly string[];
}

/** Told by what is there, not by anybody's book: whether TypeORM, psql or this command has made it is the same. */
export async function migrationsOf({ catalogue, maxLiveKeys }: Database): Promise<Migrations> {
  const texts = maxLiveKeys ? [...migrationTexts, liveKeysIndexText] : migrationTexts;
  const there = await catalogue.relations(texts.map(({ makes }) => makes));
  const names = (made: boolean): string[] => texts.filter(({ makes }) => there.has(makes) === made).map(({ name }) => name);
  return { applied: names(true), pending: names(false) };
}

/** What the store says of the tables, or against them with the remedy that is at hand here. */
export async function inspected(database: Database): Promise<StoreFindings | CliError> {
  try {
    return await database.store.inspect({ maxLiveKeys: database.maxLiveKeys });
  } catch (error) {
    if (!isIdempotencyError(error)) throw error;
    if (error.code === 'IDEMPOTENCY_SCHEMA_MISSING') return new CliError(error.code, EXIT.notMigrated, await missing(database));
    if (error.code === 'IDEMPOTENCY_SCHEMA_OUTDATED') return new CliError(error.code, EXIT.notMigrated, await unfit(database));
    throw error;
  }
}

function remedyFor({ maxLiveKeys }: Access): string {
  return `run "npx nestjs-idempotency-pg migrate${maxLiveKeys ? ' --max-live-keys' : ''}".`;
}

async function missing(database: Database): Promise<string> {
  const { catalogue, schema, target } = database;
  const fault = `Schema "${schema}" of database ${target.database} lacks idempotency tables.`;
  const elsewhere = (await catalogue.schemasWith('idempotency_records')).filter((name) => name !== schema);
  if (elsewhere.length === 0) return `${fault} To make them, ${remedyFor(database)}`;
  const others = elsewhere.map((name) => `"${name}"`).join(', ');
  return `${fault} There are some in ${others}: is --schema as it should be? Otherwise ${remedyFor(database)}`;
}

async function unfit(database: Database): Promise<string> {
  const { pending } = await migrationsOf(database);
  const remedy =
    pending.length > 0
      ? `To update them, ${remedyFor(database)}`
      : 'Every migration of this version was run, so somebody has changed them since, or they are not ours: compare them with "npx nestjs-idempotency-pg sql".';
  return `The idempotency tables in schema "${database.schema}" do not fit this version of nestjs-idempotency-pg. ${remedy}`;
}
