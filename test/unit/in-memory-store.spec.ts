import { describe, expect, it } from '@jest/globals';
import { identify } from '../../lib/engine/key.js';
import { idempotencyStoreContract } from '../../lib/testing/store-contract.js';
import { InMemoryIdempotencyStore } from '../../lib/testing/in-memory-store.js';
import { ManualClock } from '../../lib/testing/manual-clock.js';
import { anIdentity, aClaim } from '../../lib/testing/contract/workbench.js';

describe('a store in memory on a manual clock', () => {
  let clock: ManualClock;
  const makeStore = (): InMemoryIdempotencyStore => new InMemoryIdempotencyStore({ clock: (clock = new ManualClock()) });
  const cases = idempotencyStoreContract(makeStore, { advanceTime: (ms) => clock.advance(ms) });
  it.each(cases)('$name', ({ run }) => run());
});

describe('a store in memory on the system’s clock', () => {
  it.each(idempotencyStoreContract(() => new InMemoryIdempotencyStore()))('$name', ({ run }) => run());
});

describe('beyond the contract, a store in memory', () => {
  it('has no transactions, and names the remedy', async () => {
    await expect(new InMemoryIdempotencyStore().transaction()).rejects.toMatchObject({
      code: 'IDEMPOTENCY_TRANSACTION_MISUSED',
      message: expect.stringContaining('import IdempotencyModule and a DataSource'),
    });
  });

  it('is away once it is closed', async () => {
    const store = new InMemoryIdempotencyStore();
    await store.close();
    await expect(store.claim(aClaim())).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    await expect(store.find(anIdentity())).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });

  it('can end a lease for a test, of that owner and no other', async () => {
    const store = new InMemoryIdempotencyStore({ clock: new ManualClock() });
    const claim = aClaim(identify('id=1', '', 'one'));
    await store.claim(claim);
    store.endLease({ ...claim, owner: 'another' });
    expect(await store.find(claim.identity)).toMatchObject({ state: 'running' });
    store.endLease(claim);
    expect(await store.find(claim.identity)).toMatchObject({ state: 'lost' });
  });
});
