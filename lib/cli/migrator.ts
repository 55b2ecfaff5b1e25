/**
 * Runs what is missing of the migrations, in one transaction and under the lock that every migration
 * takes: of several that come at once the others wait, and then find everything in place. It keeps no
 * book of its own, and touches none of TypeORM's: there they stay to be run, and change nothing.
 */
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { createSchema, liveKeysIndexText, migrationTexts, type MigrationText } from '../../migrations/texts.js';
import { catalogue as statements } from '../store/statements.js';
import { refusal } from './failures.js';
import type { Access } from './database.js';

/** The names of those that were run. */
export async function migrate(access: Access, onWaiting: () => void): Promise<readonly string[]> {
  const applied = await withClient(access, async (client) => {
    // Read committed, whatever the default is: what others have made while this one waited must be seen.
    await client.query(`begin isolation level read committed; set local lock_timeout = ${Math.ceil(access.timeoutMs)}`);
    await waitForTurn(client, onWaiting);
    const names = await applyMissing(client, access.schema);
    await client.query('commit');
    return names;
  });
  return access.maxLiveKeys
    ? [...applied, ...(await withClient(access, (client) => indexLiveKeys(client, access.schema, onWaiting)))]
    : applied;
}

async function withClient<T>(access: Access, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ fallback_application_name: 'nestjs-idempotency-pg', ...access.target.config });
  client.on('error', () => undefined); // what is under way fails as well, and that is told
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    throw refusal(error, access.target);
  } finally {
    await client.end().catch(() => undefined); // locks and an open transaction go with it
  }
}

async function waitForTurn(client: pg.Client, onWaiting: () => void): Promise<void> {
  const { rows } = await client.query<{ readonly locked: boolean }>(statements.tryMigrationLock.text);
  if (rows[0]?.locked === true) return;
  onWaiting();
  await client.query(statements.migrationLock.text);
}

async function applyMissing(client: pg.Client, schema: string): Promise<readonly string[]> {
  const missing = await missingOf(migrationTexts, client, schema);
  if (missing.length > 0) await makeSchema(client, schema);
  for (const migration of missing) await client.query(migration.up(schema));
  return missing.map(({ name }) => name);
}

async function missingOf(texts: readonly MigrationText[], client: pg.Client, schema: string): Promise<readonly MigrationText[]> {
  const names = texts.map(({ makes }) => makes);
  const { rows } = await client.query<{ readonly name: string }>(statements.relations.text, [schema, names]);
  return texts.filter(({ makes }) => !rows.some(({ name }) => name === makes));
}

/** Only where there is none: `if not exists` asks for the right to make schemas all the same. */
async function makeSchema(client: pg.Client, schema: string): Promise<void> {
  const { rowCount } = await client.query(statements.hasSchema.text, [schema]);
  if (rowCount === 0) await client.query(createSchema(schema));
}

/** Long enough to be no burden, short enough for a person who waits. */
const ASK_AGAIN_MS = 500;

/** Beside running claims, so in no transaction; and what an interrupted one has left is removed first. */
async function indexLiveKeys(client: pg.Client, schema: string, onWaiting: () => void): Promise<readonly string[]> {
  for (let asked = 0; !(await hasTurn(client)); asked += 1) {
    if (asked === 0) onWaiting();
    await pause(ASK_AGAIN_MS);
  }
  const missing = await missingOf([liveKeysIndexText], client, schema);
  for (const migration of missing) {
    await client.query(migration.down(schema));
    await client.query(migration.up(schema));
  }
  return missing.map(({ name }) => name);
}

async function hasTurn(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ readonly locked: boolean }>(statements.tryIndexTurn.text);
  return rows[0]?.locked === true;
}
