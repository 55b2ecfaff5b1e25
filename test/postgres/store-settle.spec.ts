import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { Client } from 'pg';
import type { Claim, ClaimResult } from '../../lib/contract/record.js';
import type { RecordedHeaders } from '../../lib/contract/recorded-response.js';
import type { PostgresStore } from '../../lib/store/postgres-store.js';
import { statements } from '../../lib/store/statements.js';
import { tablesIn } from '../../lib/store/table-name.js';
import {
  aClaim,
  anAnswer,
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
afterAll(() => bench.close());

const replay = async (first: Claim): Promise<ClaimResult> => store.claim(aClaim(first.identity), IN_TIME);

/** A claim whose lease has passed and that another one has taken over. */
async function superseded(): Promise<{ late: Claim; current: Claim }> {
  const late = await owned(store);
  await bench.alter(late.id, LEASE_PASSED);
  const current = aClaim(late.identity);
  const result = await store.claim(current, IN_TIME);
  if (result.kind !== 'found' || (await store.takeOver(current, result.record, IN_TIME)).kind !== 'taken')
    throw new Error('Not taken over.');
  return { late, current };
}

describe('complete', () => {
  it.each<[string, Buffer]>([
    ['every byte there is', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
    ['nothing', Buffer.alloc(0)],
    ['one NUL', Buffer.from([0])],
    ['text that is not ASCII', Buffer.from('{"name":"Žofie 🛶"}')],
    ['a megabyte of noise', randomBytes(1024 * 1024)],
  ])('keeps a body of %s', async (_, body) => {
    const claim = await completed(store, aClaim(), anAnswer({ body }));
    const result = await replay(claim);
    const kept = result.kind === 'found' && result.record.state === 'completed' ? result.record.answer.body : undefined;
    expect(kept?.equals(body)).toBe(true);
  });

  it('keeps headers as they were set: order, lists, repeated and empty values, and text that is not ASCII', async () => {
    const headers: RecordedHeaders = [
      ['link', ['<a>; rel="next"', '<b>; rel="prev"']],
      ['content-type', 'text/plain; charset=utf-8'],
      ['etag', '"ü\u0000\u00ff\ud83d\udef6"'],
      ['cache-control', ''],
      ['content-language', []],
    ];
    const claim = await completed(store, aClaim(), anAnswer({ headers }));
    expect(await replay(claim)).toMatchObject({ record: { answer: { headers } } });
  });

  it('is settled again when it is sent a second time, and keeps the first answer', async () => {
    const claim = await owned(store);
    expect(await store.complete(claim, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    expect(await store.complete(claim, anAnswer({ body: Buffer.from('other') }), HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    expect(await replay(claim)).toMatchObject({ record: { answer: anAnswer() } });
  });

  it('is accepted from a late owner whom nobody has superseded', async () => {
    const claim = await owned(store);
    await bench.alter(claim.id, LEASE_PASSED);
    expect(await store.complete(claim, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    expect(await replay(claim)).toMatchObject({ record: { state: 'completed', answer: anAnswer() } });
  });

  it('keeps the answer for the retention from now, and ends the lease', async () => {
    const claim = await owned(store);
    await store.complete(claim, anAnswer(), HOUR, IN_TIME);
    expect(await bench.count(`id = '${claim.id}' and expires_at = completed_at + interval '1 hour' and locked_until is null`)).toBe(1);
  });

  it('is a HOT update, as renewal is', async () => {
    const { claim, renew, complete } = statements(tablesIn('public'));
    const { id, owner, identity, fingerprint, leaseMs, retentionMs } = aClaim();
    const client = new Client({ connectionString: bench.url }); // the counters are a connection's own
    await client.connect();
    try {
      await client.query('begin');
      await client.query(claim.text, [id, identity.scope, identity.operation, identity.key, fingerprint, owner, leaseMs, retentionMs]);
      await client.query(renew.text, [[id], [owner], [leaseMs], 1]);
      await client.query(complete.text, [id, owner, 201, Buffer.from('[]'), randomBytes(300), retentionMs]);
      const { rows } = await client.query(
        `select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'idempotency_records'`,
      );
      expect(rows).toEqual([{ n_tup_upd: '2', n_tup_hot_upd: '2' }]);
    } finally {
      await client.end();
    }
  });
});

describe('seal', () => {
  it.each([201, undefined])('ends an execution without an answer, with the status if it is known (%s)', async (status) => {
    const claim = await owned(store);
    expect(await store.seal(claim, status, HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    expect(await store.seal(claim, status, HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    expect(await replay(claim)).toMatchObject({ kind: 'found', record: { state: 'sealed' } });
    expect((await store.find(claim.identity))?.status).toBe(status);
  });

  it('does not replace an answer, nor an answer the seal', async () => {
    const answered = await completed(store);
    await store.seal(answered, 201, HOUR, IN_TIME);
    expect(await replay(answered)).toMatchObject({ record: { state: 'completed' } });

    const sealed = await owned(store);
    await store.seal(sealed, 201, HOUR, IN_TIME);
    await store.complete(sealed, anAnswer(), HOUR, IN_TIME);
    expect(await replay(sealed)).toMatchObject({ record: { state: 'sealed' } });
  });
});

describe('release', () => {
  it('frees the key, once', async () => {
    const claim = await owned(store);
    expect(await store.release(claim, HOUR, IN_TIME)).toBe('freed');
    expect(await store.release(claim, HOUR, IN_TIME)).toBe('absent');
    expect(await replay(claim)).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it('frees no key that has an answer', async () => {
    const claim = await completed(store);
    expect(await store.release(claim, HOUR, IN_TIME)).toBe('absent');
    expect(await replay(claim)).toMatchObject({ record: { state: 'completed' } });
  });
});

describe('renew', () => {
  it('prolongs many leases in one statement, and names those that were still owned', async () => {
    const sent: string[] = [];
    const counted = bench.store({ onStatement: (name) => sent.push(name) });
    const [one, passed, done] = [await owned(store), await owned(store), await completed(store)];
    const { late } = await superseded();
    await bench.alter(one.id, `locked_until = statement_timestamp() + interval '1 s'`);
    await bench.alter(passed.id, LEASE_PASSED);

    const leases = [one, passed, done, late, aClaim()].map((claim) => ({ ...renewal(claim), leaseMs: HOUR }));
    expect([...(await counted.renew(leases, IN_TIME))].sort()).toEqual([one.id, passed.id].sort());
    expect(sent).toEqual(['idempotency_renew']);
    expect(await bench.count(`id in ('${one.id}', '${passed.id}') and locked_until > now() + interval '59 min'`)).toBe(2);
    expect(await bench.count(`id = '${late.id}' and locked_until < now() + interval '59 min'`)).toBe(1);
  });

  it('asks nothing of Postgres when there is nothing to renew', async () => {
    const sent: string[] = [];
    expect(await bench.store({ onStatement: (name) => sent.push(name) }).renew([], IN_TIME)).toEqual([]);
    expect(sent).toEqual([]);
  });
});

describe('a superseded owner', () => {
  it('can neither complete nor seal, and learns what the record is now', async () => {
    const { late, current } = await superseded();
    const running = { kind: 'superseded', record: { state: 'running', owner: current.owner, attempt: 2 } };
    expect(await store.complete(late, anAnswer({ body: Buffer.from('stale') }), HOUR, IN_TIME)).toMatchObject(running);
    expect(await store.seal(late, 200, HOUR, IN_TIME)).toMatchObject(running);

    await store.complete(current, anAnswer(), HOUR, IN_TIME);
    const answered = { kind: 'superseded', record: { state: 'completed', owner: current.owner, answer: anAnswer() } };
    expect(await store.complete(late, anAnswer({ body: Buffer.from('stale') }), HOUR, IN_TIME)).toMatchObject(answered);
    expect(await replay(late)).toMatchObject({ record: { answer: anAnswer() } });
  });

  it('can neither renew nor release', async () => {
    const { late, current } = await superseded();
    expect(await store.renew([renewal(late)], IN_TIME)).toEqual([]);
    expect(await store.release(late, HOUR, IN_TIME)).toBe('absent');
    expect(await replay(late)).toMatchObject({ record: { state: 'running', owner: current.owner } });
  });

  it('learns of no record where there is none any more, or one whose time is over', async () => {
    const gone = await owned(store);
    await store.release(gone, HOUR, IN_TIME);
    expect(await store.complete(gone, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'superseded', record: undefined });

    const { late, current } = await superseded();
    await store.complete(current, anAnswer(), HOUR, IN_TIME);
    await bench.alter(late.id, EXPIRED);
    expect(await store.complete(late, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'superseded', record: undefined });
    expect(await store.complete({ id: late.id, owner: randomUUID() }, anAnswer(), HOUR, IN_TIME)).toEqual({
      kind: 'superseded',
      record: undefined,
    });
  });
});
