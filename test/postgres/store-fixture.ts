/** Stores, claims and answers for the specs beside this file. Time is moved in the table, never waited for. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Claim, Identity, Ownership } from '../../lib/contract/record.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import { createPostgresStore, type PostgresStore, type PostgresStoreOptions } from '../../lib/store/postgres-store.js';
import { createTestDatabase, migrate, type TestDatabase } from '../support/database.js';

export const SECOND = 1000;
export const HOUR = 3_600 * SECOND;
/** Generous: these tests share two cores with others. */
export const IN_TIME = 20 * SECOND;

export interface Bench extends TestDatabase {
  /** A store with a pool of its own, as another process would have; closed with the bench. */
  store(options?: Partial<PostgresStoreOptions>): PostgresStore;
  /** Sets columns of one record, for instance `locked_until = now() - interval '1 s'`. */
  alter(id: string, assignments: string): Promise<void>;
  count(where?: string): Promise<number>;
  /** Returns when a statement stands before a lock that the test holds. */
  somebodyWaitsForALock(): Promise<void>;
  close(): Promise<void>;
}

export async function openBench(schema = 'public'): Promise<Bench> {
  const database = await createTestDatabase();
  await migrate(database, schema);
  const table = `"${schema.replaceAll('"', '""')}".idempotency_records`;
  const stores: PostgresStore[] = [];
  return {
    ...database,
    store(options = {}) {
      const store = createPostgresStore({
        connection: { connectionString: database.url },
        application: { pool: database.pool },
        schema,
        poolSize: 4,
        preparedStatements: true,
        sharedStatements: true,
        storeTimeoutMs: IN_TIME,
        ...options,
      });
      stores.push(store);
      return store;
    },
    async alter(id, assignments) {
      await database.pool.query(`update ${table} set ${assignments} where id = $1`, [id]);
    },
    async count(where = 'true') {
      const { rows } = await database.pool.query<{ n: number }>(`select count(*)::int as n from ${table} where ${where}`);
      return rows[0]!.n;
    },
    async somebodyWaitsForALock() {
      const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      while ((await database.pool.query(waiting)).rowCount === 0);
    },
    async close() {
      await Promise.all(stores.map((store) => store.close()));
      await database.drop();
    },
  };
}

export function anIdentity(fields: Partial<Identity> = {}): Identity {
  return { id: randomUUID(), scope: 'id=1', operation: '', key: randomUUID(), ...fields };
}

export function aClaim(identity: Identity = anIdentity(), fields: Partial<Claim> = {}): Claim {
  return {
    identity,
    id: identity.id,
    owner: randomUUID(),
    fingerprint: randomBytes(32),
    leaseMs: 60 * SECOND,
    retentionMs: 24 * HOUR,
    durable: true,
    ...fields,
  };
}

export function anAnswer(fields: Partial<RecordedResponse> = {}): RecordedResponse {
  return { status: 201, headers: [['content-type', 'application/json']], body: Buffer.from('{"charged":true}'), ...fields };
}

/** Claims a free key and says so if it was none. */
export async function owned(store: PostgresStore, claim: Claim = aClaim()): Promise<Claim> {
  const result = await store.claim(claim, IN_TIME);
  if (result.kind !== 'claimed')
    throw new Error(`The key was not free, but ${result.kind === 'found' ? result.record.state : result.kind}.`);
  return claim;
}

export async function completed(store: PostgresStore, claim: Claim = aClaim(), answer = anAnswer()): Promise<Claim> {
  await store.complete(await owned(store, claim), answer, claim.retentionMs, IN_TIME);
  return claim;
}

export const renewal = ({ id, owner }: Ownership) => ({ id, owner, leaseMs: 60 * SECOND });

export const LEASE_PASSED = `locked_until = statement_timestamp() - interval '1 s'`;
export const EXPIRED = `expires_at = statement_timestamp() - interval '1 s', reap_after = statement_timestamp() - interval '1 s'`;
