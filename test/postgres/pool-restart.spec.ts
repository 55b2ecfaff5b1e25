/** A Postgres of this file's own, that can be stopped, started and told to wait. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Pool } from 'pg';
import { createPostgresStore, type PostgresStore } from '../../lib/store/postgres-store.js';
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';
import { migrate } from '../support/database.js';
import { stoppedClock } from './pool-fixture.js';
import { aClaim, anAnswer, anIdentity, HOUR, IN_TIME, owned, SECOND } from './store-fixture.js';

let dataDir: string;
let postgres: Awaited<ReturnType<typeof startPostgres>>;
const stores: PostgresStore[] = [];

beforeAll(async () => {
  dataDir = join(await mkdtemp(join(tmpdir(), 'idempotency-restart-')), 'data');
  postgres = await startPostgres({ dataDir });
  await migrate(postgres);
}, 60 * SECOND);
afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())));
afterAll(async () => {
  await postgres.stop();
  await rm(join(dataDir, '..'), { recursive: true, force: true });
});

function storeOn(url: string, options = {}): PostgresStore {
  const store = createPostgresStore({
    connection: { connectionString: url },
    application: { pool: new Pool({ connectionString: url }) },
    schema: 'public',
    poolSize: 4,
    preparedStatements: true,
    sharedStatements: true,
    storeTimeoutMs: IN_TIME,
    ...options,
  });
  stores.push(store);
  return store;
}

async function asAdmin(...statements: string[]): Promise<void> {
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  for (const statement of statements) await client.query(statement);
  await client.end();
}

describe('a restart of Postgres', () => {
  it('fails what is asked meanwhile, and nothing that is asked afterwards', async () => {
    const store = storeOn(postgres.url);
    const [running] = await Promise.all([owned(store), owned(store), owned(store), owned(store)]);

    await postgres.stop();
    await expect(store.claim(aClaim(), IN_TIME)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    postgres = await startPostgres({ dataDir, port: postgres.port });

    const claims = Array.from({ length: 8 }, () => aClaim());
    expect(await Promise.all(claims.map((claim) => store.claim(claim, IN_TIME)))).toEqual(
      claims.map(() => ({ kind: 'claimed', attempt: 1 })),
    );
    expect(await store.complete(running, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'settled' });
  });
});

/** With a standby that never confirms, a commit that waits for anything waits for ever. */
describe('while commits can’t become durable', () => {
  beforeAll(() => asAdmin(`alter system set synchronous_standby_names = 'nobody'`, 'select pg_reload_conf()'));
  afterAll(() => asAdmin('alter system reset synchronous_standby_names', 'select pg_reload_conf()'));

  it('an unflushed claim is made at once, and a durable one or a completion is not told as done', async () => {
    const clock = stoppedClock();
    const store = storeOn(postgres.url, { clock });
    const claim = aClaim(anIdentity(), { durable: false });
    expect(await store.claim(claim, IN_TIME)).toEqual({ kind: 'claimed', attempt: 1 });

    for (const wait of [() => store.claim(aClaim(), IN_TIME), () => store.complete(claim, anAnswer(), HOUR, IN_TIME)]) {
      const waiting = wait();
      await asAdmin(
        `do 'begin while not exists (select from pg_stat_activity where wait_event = ''SyncRep'') loop perform pg_stat_clear_snapshot(); end loop; end'`,
      );
      clock.advance(IN_TIME);
      await expect(waiting).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
      await asAdmin(`select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`);
    }
  });
});
