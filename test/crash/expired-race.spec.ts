/** A race that random schedules have found: two requests for a key that has just expired, and one of them is atomic and fast. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { aClaim, completed, IN_TIME, EXPIRED, openBench } from '../postgres/store-fixture.js';
import type { Bench } from '../postgres/store-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

describe('a claim of a record that has just expired', () => {
  it('does not wait for the transaction of whoever was faster', async () => {
    const store = bench.store();
    const old = await completed(store);
    await bench.alter(old.id, EXPIRED);
    const faster = await bench.pool.connect();
    const taken = `update idempotency_records set state = 0, owner = '${aClaim().owner}', completed_at = null, expires_at = null,
                          locked_until = statement_timestamp() + interval '1 minute' where id = '${old.id}'`;
    await faster.query(`begin; ${taken}`);
    const claiming = store.claim(aClaim(old.identity), IN_TIME);
    await bench.somebodyWaitsForALock();
    // Its claim is committed, and its transaction holds the row, before the one who waits is awake.
    await faster.query(`commit; begin; select from idempotency_records where id = '${old.id}' for update`);
    const [claimed] = await Promise.allSettled([claiming]);
    await faster.query('rollback');
    faster.release();
    expect(claimed).toMatchObject({ value: { kind: 'found', record: { state: 'running' } } });
  }, 60_000);
});
