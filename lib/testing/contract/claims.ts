/** Who becomes the owner of a key, and what everybody else is told. */
import assert from 'node:assert/strict';
import { aClaim, again, anAnswer, anIdentity, HOUR, hasCode, IN_TIME, leaseOf, soonExpired, soonLost } from './workbench.js';
import type { Case, Workbench } from './workbench.js';
import type { Claim, ClaimResult, FoundRecord } from '../../contract/record.js';

/** A race that goes well once may have been luck. */
const ROUNDS = 5;

/** What is left of the retention is another number each time. */
function withoutTime({ retentionLeftMs, ...record }: FoundRecord): object {
  assert.ok(retentionLeftMs <= HOUR);
  return record;
}

const isClaimed = ({ kind }: ClaimResult): boolean => kind === 'claimed';

async function race(bench: Workbench, durable: boolean): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const identity = anIdentity();
    const results = await bench.together(async () => {
      const claim = aClaim(identity, { durable });
      return { claim, result: await bench.store.claim(claim, IN_TIME) };
    });
    const winners = results.filter(({ result }) => isClaimed(result));
    assert.equal(winners.length, 1, 'claims of one free key that were told “claimed”');
    for (const { result } of results) {
      if (result.kind !== 'found') continue;
      assert.equal(result.record.state, 'running');
      assert.equal(result.record.owner, winners[0]!.claim.owner);
    }
  }
}

const expiring: readonly [state: string, make: (bench: Workbench) => Promise<Claim>][] = [
  ['completed', (bench) => bench.completed(soonExpired())],
  ['sealed', (bench) => bench.sealed(soonExpired())],
  ['open', (bench) => bench.opened(soonExpired())],
];

export const claims: readonly Case[] = [
  {
    name: 'makes the first claim of a key its owner, as attempt 1',
    async run({ store }) {
      assert.deepEqual(await store.claim(aClaim(), IN_TIME), { kind: 'claimed', attempt: 1 });
    },
  },
  { name: 'lets exactly one of many simultaneous claims through', run: (bench) => race(bench, true) },
  { name: 'does so for claims that need not wait for the disk', run: (bench) => race(bench, false) },
  {
    name: 'tells of a running record its owner, fingerprint, attempt and what is left of its lease',
    async run(bench) {
      const first = await bench.owned();
      const record = await bench.found(first);
      assert.ok(record.state === 'running');
      const { leaseLeftMs, retentionLeftMs, ...rest } = record;
      assert.deepEqual(rest, { state: 'running', owner: first.owner, fingerprint: first.fingerprint, attempt: 1 });
      assert.ok(retentionLeftMs > 0 && retentionLeftMs <= HOUR, `${retentionLeftMs} ms are left of a retention of ${HOUR} ms`);
      assert.ok(leaseLeftMs > 0 && leaseLeftMs <= HOUR, `${leaseLeftMs} ms are left of a lease of ${HOUR} ms`);
    },
  },
  {
    name: 'tells that a record whose lease has passed is lost',
    async run(bench) {
      const first = await bench.lost();
      const expected = { state: 'lost', owner: first.owner, fingerprint: first.fingerprint, attempt: 1 };
      assert.deepEqual(withoutTime(await bench.found(first)), expected);
    },
  },
  {
    name: 'tells the answer of a completed record, byte for byte',
    async run(bench) {
      const answer = anAnswer({
        status: 299,
        headers: [
          ['link', ['</a>; rel="next"', '</b>; rel="last"']],
          ['content-type', 'image/png'],
          ['x-name', 'Žofie 🛶'],
        ],
        body: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      });
      const first = await bench.completed(undefined, answer);
      const expected = { state: 'completed', owner: first.owner, fingerprint: first.fingerprint, attempt: 1, answer };
      assert.deepEqual(withoutTime(await bench.found(first)), expected);
    },
  },
  {
    name: 'keeps an empty answer',
    async run(bench) {
      const answer = { status: 204, headers: [], body: Buffer.alloc(0) };
      const record = await bench.found(await bench.completed(undefined, answer));
      assert.deepEqual(record.state === 'completed' && record.answer, answer);
    },
  },
  {
    name: 'keeps an answer as it was, whatever becomes of the buffers that it came in and goes out in',
    async run(bench) {
      const body = Buffer.from('first');
      const first = await bench.completed(undefined, anAnswer({ body }));
      body.fill('x');
      const record = await bench.found(first);
      assert.ok(record.state === 'completed');
      record.answer.body.fill('y');
      const after = await bench.found(first);
      assert.equal(after.state === 'completed' && after.answer.body.toString(), 'first');
    },
  },
  {
    name: 'tells that a record is sealed or open',
    async run(bench) {
      for (const [state, first] of [['sealed', await bench.sealed()] as const, ['open', await bench.opened()] as const]) {
        assert.deepEqual(withoutTime(await bench.found(first)), { state, owner: first.owner, fingerprint: first.fingerprint, attempt: 1 });
      }
    },
  },
  {
    name: 'recognises a claim that is sent a second time, even if its lease has passed',
    async run(bench) {
      const [running, lost] = [await bench.owned(), await bench.lost()];
      assert.deepEqual(await bench.store.claim(running, IN_TIME), { kind: 'claimed', attempt: 1 });
      assert.deepEqual(await bench.store.claim(lost, IN_TIME), { kind: 'claimed', attempt: 1 });
    },
  },
  ...expiring.map(([state, make]): Case => ({
    name: `gives an expired ${state} record’s key away afresh, under the new fingerprint and without its steps`,
    async run(bench) {
      const first = await make(bench);
      await bench.pass();
      const second = again(first);
      assert.deepEqual(await bench.store.claim(second, IN_TIME), { kind: 'claimed', attempt: 1 });
      const { state: now, owner, fingerprint } = await bench.found(first);
      assert.deepEqual({ now, owner, fingerprint }, { now: 'running', owner: second.owner, fingerprint: second.fingerprint });
      assert.deepEqual(await bench.stepsOf(second), []);
      assert.equal((await bench.store.find(first.identity))?.status, undefined);
    },
  })),
  {
    name: 'lets exactly one of many have an expired key',
    async run(bench) {
      const first = await bench.completed(soonExpired());
      await bench.pass();
      const results = await bench.together(() => bench.store.claim(again(first), IN_TIME));
      assert.equal(results.filter(isClaimed).length, 1);
    },
  },
  {
    name: 'takes no new key beyond the limit of live ones in its scope, and says when one of them ends',
    async run(bench) {
      const within = (scope: string): Claim => aClaim(anIdentity({ scope }), { maxLiveKeys: 2 });
      const [first, running] = [await bench.completed(within('a')), await bench.owned(within('a'))];
      const { kind, ...told } = await bench.store.claim(within('a'), IN_TIME);
      assert.equal(kind, 'over-limit');
      const { freesInMs } = told as { readonly freesInMs: number };
      assert.ok(freesInMs > 0 && freesInMs <= HOUR, `a key is free in ${freesInMs} ms`);
      await bench.owned(within('b'));
      const known = await bench.store.claim(aClaim(first.identity, { maxLiveKeys: 2 }), IN_TIME);
      assert.equal(known.kind, 'found');
      await bench.store.release(running, HOUR, IN_TIME);
      await bench.owned(within('a'));
    },
  },
  {
    name: 'refuses a record with another scope, operation or key under the same digest',
    async run(bench) {
      const { store } = bench;
      const first = await bench.owned();
      for (const name of ['scope', 'operation', 'key'] as const) {
        const other = { ...first.identity, [name]: 'another' };
        const isUnreadable = hasCode('IDEMPOTENCY_RECORD_UNREADABLE');
        await assert.rejects(store.claim(aClaim(other), IN_TIME), isUnreadable);
        await assert.rejects(store.find(other), isUnreadable);
        await assert.rejects(store.forget(other), isUnreadable);
        await assert.rejects(store.resolve(other, undefined, HOUR), isUnreadable);
      }
    },
  },
];

export const takeOvers: readonly Case[] = [
  {
    name: 'lets exactly one of many take a lost record over, as the next attempt under the first fingerprint',
    async run(bench) {
      const first = await bench.lost();
      const lost = await bench.found(first);
      const results = await bench.together(async () => {
        const claim = again(first);
        return { claim, result: await bench.store.takeOver(claim, lost, IN_TIME) };
      });
      const taken = results.filter(({ result }) => result.kind === 'taken');
      assert.deepEqual(
        taken.map(({ result }) => result),
        [{ kind: 'taken', attempt: 2 }],
      );
      const { state, owner, fingerprint, attempt } = await bench.found(first);
      const expected = { state: 'running', owner: taken[0]!.claim.owner, fingerprint: first.fingerprint, attempt: 2 };
      assert.deepEqual({ state, owner, fingerprint, attempt }, expected);
    },
  },
  {
    name: 'recognises a take-over that is sent a second time',
    async run(bench) {
      const first = await bench.lost();
      const lost = await bench.found(first);
      const second = again(first);
      assert.deepEqual(await bench.store.takeOver(second, lost, IN_TIME), { kind: 'taken', attempt: 2 });
      assert.deepEqual(await bench.store.takeOver(second, lost, IN_TIME), { kind: 'taken', attempt: 2 });
    },
  },
  {
    name: 'leaves a running record to its owner',
    async run(bench) {
      const first = await bench.owned();
      const result = await bench.store.takeOver(again(first), await bench.found(first), IN_TIME);
      assert.notEqual(result.kind, 'taken');
      assert.equal((await bench.found(first)).owner, first.owner);
    },
  },
  {
    name: 'leaves a record alone that somebody else has taken over, though lost again by now',
    async run(bench) {
      const first = await bench.lost();
      const lost = await bench.found(first);
      await bench.store.takeOver(soonLost(first.identity), lost, IN_TIME);
      await bench.pass();
      assert.deepEqual(await bench.store.takeOver(again(first), lost, IN_TIME), { kind: 'changed' });
    },
  },
  {
    name: 'leaves a record alone that its late owner has completed, renewed or released meanwhile',
    async run(bench) {
      const ends: readonly ((late: Claim) => Promise<unknown>)[] = [
        (late) => bench.store.complete(late, anAnswer(), HOUR, IN_TIME),
        (late) => bench.store.renew([leaseOf(late)], IN_TIME),
        (late) => bench.store.release(late, HOUR, IN_TIME),
      ];
      for (const end of ends) {
        const first = await bench.lost();
        const lost = await bench.found(first);
        await end(first);
        assert.deepEqual(await bench.store.takeOver(again(first), lost, IN_TIME), { kind: 'changed' });
      }
    },
  },
  {
    name: 'resumes an open record with its steps, as often as it takes',
    async run(bench) {
      const second = await bench.takenOver(await bench.opened());
      assert.deepEqual(await bench.stepsOf(second), [['charge', '"ch_1"']]);
      assert.equal(await bench.record(second, 'mail', '"sent"'), true);
      await bench.store.release(second, HOUR, IN_TIME);
      const third = await bench.takenOver(second);
      assert.deepEqual(await bench.stepsOf(third), [
        ['charge', '"ch_1"'],
        ['mail', '"sent"'],
      ]);
      await bench.store.complete(third, anAnswer(), HOUR, IN_TIME);
      const { state, attempt, steps } = (await bench.store.find(third.identity))!;
      assert.deepEqual({ state, attempt, steps }, { state: 'completed', attempt: 3, steps: ['charge', 'mail'] });
    },
  },
  {
    name: 'does not resume an open record that has expired',
    async run(bench) {
      const first = await bench.opened(soonExpired());
      const open = { state: 'open', fingerprint: first.fingerprint, owner: first.owner, attempt: 1, retentionLeftMs: 1 } as const;
      await bench.pass();
      assert.deepEqual(await bench.store.takeOver(again(first), open, IN_TIME), { kind: 'changed' });
    },
  },
];
