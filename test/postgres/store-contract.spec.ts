/** The store in Postgres keeps the contract that every store does; what it promises beyond is in the other specs here. */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { idempotencyStoreContract } from '../../lib/testing/store-contract.js';
import { openBench, type Bench } from './store-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

/** Time is moved in the table: every instant that ends something comes nearer. */
async function advanceTime(ms: number): Promise<void> {
  await bench.pool.query(
    `update idempotency_records
        set locked_until = locked_until - $1 * interval '1 millisecond',
            expires_at = expires_at - $1 * interval '1 millisecond',
            reap_after = reap_after - $1 * interval '1 millisecond'`,
    [ms],
  );
}

describe('a store in Postgres', () => {
  const cases = idempotencyStoreContract(
    async () => {
      await bench.pool.query('truncate idempotency_records, idempotency_steps');
      return bench.store({ poolSize: 10 });
    },
    { advanceTime, concurrent: 20 },
  );
  it.each(cases)('$name', ({ run }) => run());
});
