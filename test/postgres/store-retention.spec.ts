import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { barrier } from '../support/barrier.js';
import {
  aClaim,
  anAnswer,
  anIdentity,
  completed,
  EXPIRED,
  HOUR,
  IN_TIME,
  LEASE_PASSED,
  openBench,
  owned,
  renewal,
  type Bench,
} from './store-fixture.js';

let bench: Bench;
let store: PostgresStore;
beforeAll(async () => {
  bench = await openBench();
  store = bench.store();
});
beforeEach(() => bench.pool.query('truncate idempotency_records'));
afterAll(() => bench.close());

async function expired(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await bench.alter((await completed(store)).id, EXPIRED);
}

describe('reap', () => {
  it('removes expired records in bites, and nothing else', async () => {
    await expired(5);
    const running = await owned(store);
    const kept = await completed(store);
    const lost = await owned(store);
    await bench.alter(lost.id, `${LEASE_PASSED}, reap_after = statement_timestamp() - interval '1 day'`);

    expect([await store.reap(2), await store.reap(2), await store.reap(2), await store.reap(2)]).toEqual([2, 2, 1, 0]);
    expect(await bench.count(`id in ('${running.id}', '${kept.id}', '${lost.id}')`)).toBe(3);
    expect(await bench.count()).toBe(3);
  });

  it('never removes a lost record, however old: it tells of an unknown outcome', async () => {
    const lost = await owned(store);
    await bench.alter(lost.id, `${LEASE_PASSED}, reap_after = statement_timestamp() - interval '1 year'`);
    expect(await store.reap(100)).toBe(0);
    expect(await store.find(lost.identity)).toMatchObject({ state: 'lost' });
  });

  it('keeps an answer until its own retention ends, which a late completion moves', async () => {
    const late = await completed(store);
    await bench.alter(late.id, `reap_after = statement_timestamp() - interval '1 s'`);
    expect(await store.reap(100)).toBe(0);
  });

  it('may be done by several at once: each expired record is counted once', async () => {
    await expired(40);
    const stores = [bench.store(), bench.store(), bench.store()];
    await Promise.all(stores.map((each) => each.inspect()));
    const gate = barrier(3);
    const removed = await Promise.all(stores.map((each) => gate.arrive().then(() => each.reap(100))));
    expect(removed.reduce((sum, count) => sum + count)).toBe(40);
    expect(await bench.count()).toBe(0);
  });

  it('does not remove a record that a claim takes over while the reaper waits for its lock', async () => {
    const first = await completed(store);
    await bench.alter(first.id, EXPIRED);
    const claimant = await bench.pool.connect();
    try {
      await claimant.query('begin');
      await claimant.query(
        `update idempotency_records
            set state = 0, owner = $2, expires_at = null, locked_until = statement_timestamp() + interval '1 min',
                reap_after = statement_timestamp() + interval '1 day'
          where id = $1`,
        [first.id, randomUUID()],
      );
      const reaped = store.reap(100);
      await bench.somebodyWaitsForALock();
      await claimant.query('commit');
      expect(await reaped).toBe(0);
    } finally {
      claimant.release();
    }
    expect(await store.find(first.identity)).toMatchObject({ state: 'running' });
  });

  it('finds its bite by the index', async () => {
    const client = await bench.pool.connect();
    try {
      await client.query('set enable_seqscan = off');
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(
        `explain select id from idempotency_records
          where reap_after <= statement_timestamp() and expires_at <= statement_timestamp() and state <> 0
          order by reap_after limit 10`,
      );
      expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toContain('Index Scan using idempotency_records_reap_after');
    } finally {
      client.release(true);
    }
  });
});

describe('find', () => {
  it('tells everything but the answer', async () => {
    const { identity, ...claim } = await owned(store);
    const { id: _id, ...names } = identity;
    expect(await store.find(identity)).toEqual({
      ...names,
      state: 'running',
      attempt: 1,
      steps: [],
      createdAt: expect.any(Date),
      lockedUntil: expect.any(Date),
    });

    await store.complete(claim, anAnswer(), HOUR, IN_TIME);
    const summary = await store.find(identity);
    expect(summary).toEqual({
      ...names,
      state: 'completed',
      attempt: 1,
      status: 201,
      steps: [],
      createdAt: expect.any(Date),
      completedAt: expect.any(Date),
      expiresAt: expect.any(Date),
    });
    expect(summary!.expiresAt!.getTime() - summary!.completedAt!.getTime()).toBe(HOUR);
  });

  it('tells database time whatever the session’s date style and zone', async () => {
    const { identity } = await completed(store);
    const abroad = bench.store({
      connection: { connectionString: bench.url, options: '-c DateStyle=German -c TimeZone=Asia/Kathmandu -c bytea_output=escape' },
    });
    expect(await abroad.find(identity)).toEqual(await store.find(identity));
    const here = await store.claim(aClaim(identity), IN_TIME);
    const left = { retentionLeftMs: expect.any(Number) }; // time goes on between the two
    expect(await abroad.claim(aClaim(identity), IN_TIME)).toEqual({ ...here, record: { ...('record' in here && here.record), ...left } });
  });

  it('knows nothing of a free key, whether nothing was there or its time is over', async () => {
    const { id, identity } = await completed(store);
    await bench.alter(id, EXPIRED);
    expect(await store.find(identity)).toBeUndefined();
    expect(await store.find(anIdentity())).toBeUndefined();
  });
});

describe('forget', () => {
  it('removes what is done or lost, and leaves what is live', async () => {
    const [done, lost, live] = [await completed(store), await owned(store), await owned(store)];
    await bench.alter(lost.id, LEASE_PASSED);
    expect(await store.forget(done.identity)).toBe('removed');
    expect(await store.forget(lost.identity)).toBe('removed');
    expect(await store.forget(live.identity)).toBe('live');
    expect(await store.forget(anIdentity())).toBe('absent');
    expect(await bench.count()).toBe(1);
  });

  it('counts an expired record as none', async () => {
    const { id, identity } = await completed(store);
    await bench.alter(id, EXPIRED);
    expect(await store.forget(identity)).toBe('absent');
  });

  it('spares a lost record that somebody is writing to, and does not wait for them', async () => {
    const lost = await owned(store);
    await bench.alter(lost.id, LEASE_PASSED);
    const owner = await bench.pool.connect();
    try {
      await owner.query('begin');
      await owner.query(`update idempotency_records set locked_until = statement_timestamp() + interval '1 min' where id = $1`, [lost.id]);
      expect(await store.forget(lost.identity)).toBe('live');
      await owner.query('commit');
    } finally {
      owner.release();
    }
    expect(await store.forget(lost.identity)).toBe('live');
    expect(await store.renew([renewal(lost)], IN_TIME)).toEqual([lost.id]);
  });

  it('waits for a writer to a record that is over, and judges what comes of it', async () => {
    const open = await completed(store);
    await bench.alter(open.id, 'state = 3');
    const rival = await bench.pool.connect();
    try {
      await rival.query('begin');
      await rival.query(
        `update idempotency_records set state = 0, expires_at = null, locked_until = statement_timestamp() + interval '1 min' where id = $1`,
        [open.id],
      );
      const forgotten = store.forget(open.identity);
      await bench.somebodyWaitsForALock();
      await rival.query('commit');
      expect(await forgotten).toBe('live');
    } finally {
      rival.release();
    }
  });
});

describe('forgetScope', () => {
  it('removes all records of the scope but the live ones, page by page', async () => {
    const statements: string[] = [];
    const counted = bench.store({ onStatement: (name) => statements.push(name) });
    const claims = [];
    for (let n = 0; n < 7; n += 1) claims.push(await completed(store, aClaim(anIdentity({ scope: n % 2 ? 'id=1' : 'id=2' }))));
    const live = await owned(store, aClaim(anIdentity({ scope: 'id=2' })));

    expect(await counted.forgetScope('id=2', 3)).toBe(4);
    expect(await bench.count(`scope = 'id=1'`)).toBe(3);
    expect(await bench.count(`id = '${live.id}'`)).toBe(1);
    expect(statements.filter((name) => name === 'idempotency_page_of_records')).toHaveLength(4); // 3 + 3 + 2, and the empty one
  });

  it('tells scopes apart that differ in case, and knows the shared one', async () => {
    for (const scope of ['a', 'A', '']) await completed(store, aClaim(anIdentity({ scope })));
    expect(await store.forgetScope('A', 10)).toBe(1);
    expect(await store.forgetScope('', 10)).toBe(1);
    expect(await bench.count(`scope = 'a'`)).toBe(1);
  });
});

describe('stats', () => {
  it('counts by state, the expired apart, and names the oldest lost', async () => {
    expect(await store.stats()).toEqual({ running: 0, lost: 0, completed: 0, sealed: 0, open: 0, expired: 0 });

    await owned(store);
    const [lost, older] = [await owned(store), await owned(store)];
    await bench.alter(lost.id, LEASE_PASSED);
    await bench.alter(older.id, `locked_until = '2001-02-03 04:05:06Z'`);
    await completed(store);
    const [sealed, open] = [await completed(store), await completed(store)];
    await bench.alter(sealed.id, 'state = 2');
    await bench.alter(open.id, 'state = 3');
    await expired(2);
    expect(await store.stats()).toEqual({
      running: 1,
      lost: 2,
      completed: 1,
      sealed: 1,
      open: 1,
      expired: 2,
      oldestLost: new Date('2001-02-03T04:05:06Z'),
    });
  });
});
