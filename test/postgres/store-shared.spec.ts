import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import type { Claim, ClaimResult } from '../../lib/contract/record.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { statements } from '../../lib/store/statements.js';
import { tablesIn } from '../../lib/store/table-name.js';
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
let sent: string[];
beforeAll(async () => {
  bench = await openBench();
  sent = [];
  store = bench.store({ onStatement: (name) => sent.push(name) });
});
afterAll(() => bench.close());

const claims = (count: number, fields: Partial<Claim> = {}): Claim[] => Array.from({ length: count }, () => aClaim(anIdentity(), fields));
const again = ({ identity }: Claim): Claim => aClaim(identity);
const claimAll = (all: readonly Claim[]): Promise<ClaimResult[]> => Promise.all(all.map((claim) => store.claim(claim, IN_TIME)));

async function statementsOf<T>(work: () => Promise<T>): Promise<{ names: string[]; result: T }> {
  const before = sent.length;
  const result = await work();
  return { names: sent.slice(before), result };
}

/** Holds rows as a stranger's transaction would, until the returned function is called. */
async function holding(sql: string, values: readonly unknown[]): Promise<() => Promise<void>> {
  const stranger = new Client({ connectionString: bench.url });
  await stranger.connect();
  await stranger.query('begin');
  await stranger.query(sql, [...values]);
  return () => stranger.end();
}
const holdingRow = ({ id }: Claim) => holding('select from idempotency_records where id = $1 for update', [id]);

describe('claims of the same moment', () => {
  it.each([
    [true, 'idempotency_claim_shared'],
    [false, 'idempotency_claim_shared_unflushed'],
  ])('are one statement (durable: %s), and all are made', async (durable, name) => {
    const all = claims(20, { durable });
    const { names, result } = await statementsOf(() => claimAll(all));
    expect(names).toEqual([name]);
    expect(result).toEqual(all.map(() => ({ kind: 'claimed', attempt: 1 })));
    for (const { id, identity, owner, fingerprint } of all) {
      const { rows } = await bench.pool.query('select * from idempotency_records where id = $1', [id]);
      const { scope, operation, key } = identity;
      expect(rows).toMatchObject([{ scope, operation, key, owner, state: 0, attempt: 1, completed_at: null }]);
      expect((rows[0] as { fingerprint: Buffer }).fingerprint.equals(fingerprint)).toBe(true);
    }
  });

  it('don’t mix those that wait for the disk with those that need not', async () => {
    const { names } = await statementsOf(() => claimAll([...claims(2), ...claims(2, { durable: false })]));
    expect(names.sort()).toEqual(['idempotency_claim_shared', 'idempotency_claim_shared_unflushed']);
  });

  it('each hear what stands in their own way', async () => {
    const answer = anAnswer({ status: 202, headers: [['etag', ['"a"', '"ü"']]], body: randomBytes(300) });
    const [done, running, lost, sealed, expired] = [
      await completed(store, aClaim(), answer),
      await owned(store),
      await owned(store),
      await owned(store),
      await completed(store),
    ];
    await bench.alter(lost.id, LEASE_PASSED);
    await store.seal(sealed, 200, HOUR, IN_TIME);
    await bench.alter(expired.id, EXPIRED);
    const free = aClaim();
    const { names, result } = await statementsOf(() => claimAll([...[done, running, lost, sealed, expired].map(again), free]));
    expect(names).toEqual(['idempotency_claim_shared', 'idempotency_take_expired']);
    expect(result).toMatchObject([
      { kind: 'found', record: { state: 'completed', answer, fingerprint: done.fingerprint, owner: done.owner } },
      { kind: 'found', record: { state: 'running', fingerprint: running.fingerprint, owner: running.owner } },
      { kind: 'found', record: { state: 'lost' } },
      { kind: 'found', record: { state: 'sealed' } },
      { kind: 'claimed', attempt: 1 },
      { kind: 'claimed', attempt: 1 },
    ]);
  });

  it('tell a lost record from one whose row a transaction holds', async () => {
    const [held, lost] = [await owned(store), await owned(store)];
    for (const { id } of [held, lost]) await bench.alter(id, LEASE_PASSED);
    const letGo = await holdingRow(held);
    expect(await claimAll([held, lost].map(again))).toMatchObject([{ record: { state: 'running' } }, { record: { state: 'lost' } }]);
    await letGo();
  });

  it('of one key give it to one of them', async () => {
    const identity = anIdentity();
    const results = await claimAll([...Array.from({ length: 10 }, () => aClaim(identity)), ...claims(3)]);
    expect(results.slice(0, 10).filter(({ kind }) => kind === 'claimed')).toHaveLength(1);
    expect(results.slice(0, 10).filter((result) => result.kind === 'found' && result.record.state === 'running')).toHaveLength(9);
    expect(results.slice(10)).toEqual(Array.from({ length: 3 }, () => ({ kind: 'claimed', attempt: 1 })));
  });

  it('recognise their own earlier sending', async () => {
    const all = claims(3);
    await claimAll(all);
    expect(await claimAll(all)).toEqual(all.map(() => ({ kind: 'claimed', attempt: 1 })));
  });

  it('keep texts as they are', async () => {
    const texts = ['{"a","b"}', `'; drop table x; --`, '\\"', 'NULL', '', ' ', 'ü🛶', '{}'];
    const all = texts.map((scope) => aClaim(anIdentity({ scope, key: scope || 'k', operation: scope })));
    await claimAll(all);
    for (const claim of all) expect(await store.find(claim.identity)).toMatchObject({ state: 'running', scope: claim.identity.scope });
  });

  it('that Postgres can’t take spoil nothing for the others', async () => {
    const bad = aClaim(anIdentity({ key: 'a\u0000b' }));
    const good = claims(5);
    const results = await Promise.allSettled([bad, ...good].map((claim) => store.claim(claim, IN_TIME)));
    expect(results.map(({ status }) => status)).toEqual(['rejected', ...good.map(() => 'fulfilled')]);
  });

  it('that find another key under their digest fail alone', async () => {
    const theirs = await owned(store);
    const results = await Promise.allSettled([aClaim({ ...anIdentity(), id: theirs.id }), aClaim()].map((c) => store.claim(c, IN_TIME)));
    expect(results).toMatchObject([{ status: 'rejected', reason: { code: 'IDEMPOTENCY_RECORD_UNREADABLE' } }, { status: 'fulfilled' }]);
  });

  it('don’t wait for one whose row somebody is about to insert', async () => {
    const [stuck, ...others] = claims(4);
    const { id, identity } = stuck!;
    const letGo = await holding(
      `insert into idempotency_records (id, owner, created_at, locked_until, reap_after, attempt, state, scope, operation, key, fingerprint)
       values ($1, gen_random_uuid(), now(), now() + interval '1 min', now(), 1, 0, $2, $3, $4, '')`,
      [id, identity.scope, identity.operation, identity.key],
    );
    let isStuck = true;
    const waiting = store.claim(stuck!, IN_TIME).finally(() => (isStuck = false));
    expect(await claimAll(others)).toEqual(others.map(() => ({ kind: 'claimed', attempt: 1 })));
    expect(isStuck).toBe(true);
    await letGo(); // which undoes it
    expect(await waiting).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it('are made in the order of their ids, in which two processes with the same keys queue up', async () => {
    const ids = claims(20)
      .map(({ id }) => id)
      .sort();
    await claimAll(ids.toReversed().map((id) => aClaim(anIdentity({ id }))));
    const { rows } = await bench.pool.query('select id from idempotency_records where id = any($1) order by ctid', [ids]);
    expect(rows).toEqual(ids.map((id) => ({ id })));
  });

  it('of two processes with the same keys don’t lock each other out', async () => {
    const rival = bench.store();
    for (let round = 0; round < 20; round += 1) {
      const identities = Array.from({ length: 20 }, () => anIdentity());
      const ours = identities.map((identity) => store.claim(aClaim(identity), IN_TIME));
      const theirs = identities.toReversed().map((identity) => rival.claim(aClaim(identity), IN_TIME));
      const won = (results: readonly ClaimResult[]): number => results.filter(({ kind }) => kind === 'claimed').length;
      expect(won(await Promise.all(ours)) + won(await Promise.all(theirs))).toBe(20);
    }
  });
});

describe('completions of the same moment', () => {
  const kept = async (claim: Claim): Promise<unknown> => {
    const result = await store.claim(again(claim), IN_TIME);
    return result.kind === 'found' && result.record.state === 'completed' ? result.record.answer : undefined;
  };

  it('are one statement, and each keeps its own answer', async () => {
    const bodies = [Buffer.alloc(0), Buffer.from([0]), Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)), randomBytes(5000)];
    const all = bodies.map((body, i) => ({
      claim: aClaim(),
      answer: anAnswer({ status: 200 + i, body, headers: i === 1 ? [] : [['x', `ü${i}`]] }),
    }));
    await claimAll(all.map(({ claim }) => claim));
    const { names, result } = await statementsOf(() =>
      Promise.all(all.map(({ claim, answer }) => store.complete(claim, answer, HOUR, IN_TIME))),
    );
    expect(names).toEqual(['idempotency_complete_shared']);
    expect(result).toEqual(all.map(() => ({ kind: 'settled' })));
    for (const { claim, answer } of all) {
      expect(await kept(claim)).toEqual(answer);
      expect(await bench.count(`id = '${claim.id}' and expires_at = completed_at + interval '1 hour' and locked_until is null`)).toBe(1);
    }
  });

  it('leave large ones to a statement of their own', async () => {
    const all = claims(3);
    await claimAll(all);
    const bodies = [randomBytes(10), randomBytes(100_000), randomBytes(10)];
    const { names } = await statementsOf(() =>
      Promise.all(all.map((claim, i) => store.complete(claim, anAnswer({ body: bodies[i]! }), HOUR, IN_TIME))),
    );
    expect(names.sort()).toEqual(['idempotency_complete', 'idempotency_complete_shared']);
    for (const [i, claim] of all.entries()) expect(await kept(claim)).toEqual(anAnswer({ body: bodies[i]! }));
  });

  it('refuse those who were superseded, and them alone', async () => {
    const [late, ...others] = claims(4);
    await claimAll([late!, ...others]);
    await bench.alter(late!.id, LEASE_PASSED);
    const current = again(late!);
    const found = await store.claim(current, IN_TIME);
    if (found.kind === 'found') await store.takeOver(current, found.record, IN_TIME);
    const settled = await Promise.all([late!, ...others].map((claim) => store.complete(claim, anAnswer(), HOUR, IN_TIME)));
    expect(settled).toMatchObject([
      { kind: 'superseded', record: { state: 'running', owner: current.owner } },
      ...others.map(() => ({ kind: 'settled' })),
    ]);
  });

  it('are settled again when they are sent a second time, and keep the first answers', async () => {
    const all = claims(3);
    await claimAll(all);
    for (const body of ['first', 'second']) {
      const settled = all.map((claim) => store.complete(claim, anAnswer({ body: Buffer.from(body) }), HOUR, IN_TIME));
      expect(await Promise.all(settled)).toEqual(all.map(() => ({ kind: 'settled' })));
    }
    for (const claim of all) expect(await kept(claim)).toEqual(anAnswer({ body: Buffer.from('first') }));
  });

  it('don’t wait for one whose row somebody holds', async () => {
    const [held, ...others] = claims(4);
    await claimAll([held!, ...others]);
    const letGo = await holdingRow(held!);
    let isHeld = true;
    const waiting = store.complete(held!, anAnswer(), HOUR, IN_TIME).finally(() => (isHeld = false));
    const settled = await Promise.all(others.map((claim) => store.complete(claim, anAnswer(), HOUR, IN_TIME)));
    expect(settled).toEqual(others.map(() => ({ kind: 'settled' })));
    await bench.somebodyWaitsForALock();
    expect(isHeld).toBe(true);
    await letGo();
    expect(await waiting).toEqual({ kind: 'settled' });
  });

  it('are HOT updates', async () => {
    const client = new Client({ connectionString: bench.url }); // the counters are a connection's own
    await client.connect();
    const { claimShared, completeShared } = statements(tablesIn('public'));
    const { id, owner, identity, leaseMs, retentionMs } = aClaim();
    await client.query('begin');
    const { scope, operation, key } = identity;
    await client.query(claimShared.text, [
      [id],
      [scope],
      [operation],
      [key],
      [randomBytes(32)],
      [owner],
      [leaseMs],
      [retentionMs],
      '1s',
      1,
    ]);
    await client.query(completeShared.text, [[id], [owner], [201], [randomBytes(2)], [randomBytes(300)], [retentionMs], 1]);
    const { rows } = await client.query(
      `select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'idempotency_records'`,
    );
    await client.end();
    expect(rows).toEqual([{ n_tup_upd: '1', n_tup_hot_upd: '1' }]);
  });
});

describe('renewals', () => {
  it('pass by a row that somebody holds: it stays this owner’s, and all others are prolonged', async () => {
    const [held, gone, ...others] = claims(5);
    await claimAll([held!, ...others]);
    for (const { id } of others) await bench.alter(id, LEASE_PASSED);
    const letGo = await holdingRow(held!);
    const renewed = await store.renew(
      [held!, gone!, ...others].map((claim) => renewal(claim)),
      IN_TIME,
    );
    expect([...renewed].sort()).toEqual([held!, ...others].map(({ id }) => id).sort());
    for (const { id } of others) expect(await bench.count(`id = '${id}' and locked_until > now() + interval '50 s'`)).toBe(1);
    await letGo();
  });

  it('prolong a row that was held for a moment only', async () => {
    const held = await owned(store);
    await bench.alter(held.id, LEASE_PASSED);
    const letGo = await holdingRow(held);
    const renewing = bench.store({ sharedStatements: false }).renew([renewal(held)], IN_TIME);
    await bench.somebodyWaitsForALock();
    await letGo();
    expect(await renewing).toEqual([held.id]);
    expect(await bench.count(`id = '${held.id}' and locked_until > now() + interval '50 s'`)).toBe(1);
  });
});

describe('where the tables are sharded', () => {
  it('each request has statements of its own, and none of them passes rows by across shards', async () => {
    const names: string[] = [];
    const unshared = bench.store({ sharedStatements: false, onStatement: (name) => names.push(name) });
    const all = claims(3);
    await Promise.all(all.map((claim) => unshared.claim(claim, IN_TIME)));
    expect(await unshared.renew(all.map(renewal), IN_TIME)).toEqual(all.map(({ id }) => id));
    await Promise.all(all.map((claim) => unshared.complete(claim, anAnswer(), HOUR, IN_TIME)));
    expect(names).toEqual([
      ...all.map(() => 'idempotency_claim'),
      ...all.map(() => 'idempotency_renew_one'),
      ...all.map(() => 'idempotency_complete'),
    ]);
  });
});

describe('the plan that Postgres keeps for a shared statement', () => {
  it.each(['claimShared', 'claimSharedUnflushed', 'completeShared', 'renew'] as const)(
    'of %s looks rows up one by one, however young the table is',
    async (name) => {
      const young = await openBench();
      const client = new Client({ connectionString: young.url });
      await client.connect();
      const { text } = statements(tablesIn('public'))[name];
      await client.query('set plan_cache_mode = force_generic_plan');
      await client.query(`prepare shared as ${text}`);
      const count = Math.max(...[...text.matchAll(/\$(\d+)/g)].map(([, n]) => Number(n)));
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(
        `explain execute shared (${Array.from({ length: count }, () => 'null').join(', ')})`,
      );
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      await client.end();
      await young.close();
      expect(plan).toContain('idempotency_records_pkey');
      expect(plan).not.toContain('Seq Scan on idempotency_records');
    },
  );

  it('never asks of a record that nobody has named whether it is free, for which it would have to be locked', async () => {
    const lost = await owned(store);
    await bench.alter(lost.id, LEASE_PASSED);
    const { id, identity, owner, fingerprint, leaseMs, retentionMs } = aClaim();
    const { scope, operation, key } = identity;
    const client = new Client({ connectionString: bench.url });
    await client.connect();
    await client.query('set enable_nestloop = off'); // whoever joins now reads the table as a whole
    await client.query('begin');
    const asked = [[id], [scope], [operation], [key], [fingerprint], [owner], [leaseMs], [retentionMs]];
    await client.query(statements(tablesIn('public')).claimShared.text, [...asked, '1s', 1]);
    const { rowCount } = await bench.pool.query('select from idempotency_records where id = $1 for update skip locked', [lost.id]);
    await client.end();
    expect(rowCount).toBe(1);
  });

  it.each([1, 2, 9, 40])('is kept, where the first ones that a connection carries are of %s', async (count) => {
    const client = new Client({ connectionString: bench.url });
    await client.connect();
    const { claimShared, completeShared } = statements(tablesIn('public'));
    for (let round = 0; round < 7; round += 1) {
      const all = claims(count);
      const [ids, owners] = [all.map(({ id }) => id), all.map(({ owner }) => owner)];
      const texts = all.map(() => 'x');
      const bytes = all.map(() => randomBytes(9));
      const [leases, statuses] = [all.map(() => 60_000), all.map(() => 200)];
      await client.query({ ...claimShared, values: [ids, texts, texts, texts, bytes, owners, leases, leases, '1s', count] });
      await client.query({ ...completeShared, values: [ids, owners, statuses, bytes, bytes, leases, count] });
    }
    const { rows } = await client.query('select name, generic_plans, custom_plans from pg_prepared_statements order by name');
    await client.end();
    expect(rows).toEqual([claimShared, completeShared].map(({ name }) => ({ name, generic_plans: '2', custom_plans: '5' })));
  });
});
