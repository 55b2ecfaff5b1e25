/** What a transaction can be told before its COMMIT, and would otherwise be told by it. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { RecordTransaction } from '../../lib/contract/transaction.js';
import { aClaim, openBench, owned, type Bench } from './store-fixture.js';
import { answering, begun, makeLedger, nothingIsLent, PROMPT_SHOPS, SHOPS, type Shop } from './transaction-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await makeLedger(bench);
  await bench.pool.query('create table seats (number int not null unique deferrable initially deferred)');
});
afterAll(() => bench.close());

describe.each([...SHOPS, ...PROMPT_SHOPS])('a probe (%s)', (_, open) => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await open(bench);
  });
  afterEach(() => nothingIsLent(shop));
  afterAll(() => shop.close());

  /** Writes after it has seen that there is nothing, as somebody else does who commits first. */
  async function doom(transaction: RecordTransaction): Promise<void> {
    await shop.query(transaction, 'select from ledger');
    await shop.write(transaction, 'mine');
    await bench.pool.query(`begin isolation level serializable; select from ledger; insert into ledger (note) values ('theirs'); commit`);
  }

  it('finds nothing where nothing is wrong, and the transaction goes on', async () => {
    for (const isolation of ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const) {
      const claim = await owned(shop.store);
      const transaction = await begun(shop.store, claim, { isolation });
      await shop.write(transaction, 'charged');
      await transaction.probe();
      expect(await transaction.commit(answering(claim))).toEqual({ kind: 'committed' });
    }
  });

  it('tells a serializable transaction that it is doomed', async () => {
    const transaction = await begun(shop.store, await owned(shop.store), { isolation: 'SERIALIZABLE' });
    await doom(transaction);
    await expect(transaction.probe()).rejects.toMatchObject({ code: '40001' });
    await transaction.rollBack();
  });

  it('does so even where the index alone could answer, since vacuum has looked at the table', async () => {
    const transaction = await begun(shop.store, await owned(shop.store), { isolation: 'SERIALIZABLE' });
    await shop.query(transaction, 'set local enable_seqscan = off');
    await shop.query(transaction, 'set local enable_bitmapscan = off');
    await doom(transaction);
    await bench.pool.query('vacuum idempotency_records');
    await expect(transaction.probe()).rejects.toMatchObject({ code: '40001' });
    await transaction.rollBack();
  });

  it('checks deferred constraints, also within savepoints, and says what is violated', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await transaction.savepoint(() => shop.query(transaction, 'insert into seats values (1), (1)'));
    await expect(transaction.probe()).rejects.toMatchObject({ code: '23505' });
    expect(await transaction.commit(answering(claim))).toMatchObject({ kind: 'refused', cause: { code: '23505' } });
  });

  it('undoes nothing: what comes after it is checked at once', async () => {
    const claim = await owned(shop.store);
    const transaction = await begun(shop.store, claim);
    await shop.query(transaction, 'insert into seats values (2), (3)');
    await transaction.probe();
    await expect(shop.query(transaction, 'update seats set number = 2 where number = 3')).rejects.toMatchObject({ code: '23505' });
    await transaction.rollBack();
  });

  it('of a transaction without a record checks its constraints', async () => {
    const transaction = await begun(shop.store, aClaim(), { holdsRecord: false, isolation: 'SERIALIZABLE' });
    await transaction.probe();
    await shop.query(transaction, 'set constraints all deferred');
    await shop.query(transaction, 'insert into seats values (4), (4)');
    await expect(transaction.probe()).rejects.toMatchObject({ code: '23505' });
    await transaction.rollBack();
  });

  it('tells what has aborted it, and not only that it is', async () => {
    const transaction = await begun(shop.store, await owned(shop.store));
    await shop.query(transaction, 'select 1/0').catch(() => undefined);
    await expect(transaction.probe()).rejects.toMatchObject({ code: '22012' });
    await transaction.rollBack();
  });

  it('of a transaction that is over is refused', async () => {
    const transaction = await begun(shop.store, await owned(shop.store));
    await transaction.rollBack();
    await expect(transaction.probe()).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });
});
