/** What an operator sees and does, and what the reaper may take. */
import assert from 'node:assert/strict';
import { aClaim, again, anAnswer, anIdentity, BRIEF, HOUR, IN_TIME, soonExpired, soonLost } from './workbench.js';
import type { Case, Workbench } from './workbench.js';
import type { Claim } from '../../contract/record.js';

const unsettled: readonly [state: string, make: (bench: Workbench) => Promise<Claim>][] = [
  ['lost', (bench) => bench.lost()],
  ['open', (bench) => bench.opened()],
  ['sealed', (bench) => bench.sealed()],
];

const inScope = (scope: string): Claim => aClaim(anIdentity({ scope }));

export const operators: readonly Case[] = [
  {
    name: 'finds everything about a record but its answer',
    async run(bench) {
      const claim = await bench.owned(aClaim(anIdentity({ scope: 'id=7', operation: 'pay' })));
      const { id: _id, ...names } = claim.identity;
      const { createdAt, lockedUntil, ...running } = (await bench.store.find(claim.identity))!;
      assert.deepEqual(running, { ...names, state: 'running', attempt: 1, steps: [] });
      assert.equal(lockedUntil!.getTime() - createdAt.getTime(), HOUR);
      await bench.store.complete(claim, anAnswer(), HOUR, IN_TIME);
      const { createdAt: since, completedAt, expiresAt, ...completed } = (await bench.store.find(claim.identity))!;
      assert.deepEqual(completed, { ...names, state: 'completed', attempt: 1, status: 201, steps: [] });
      assert.deepEqual(since, createdAt);
      assert.ok(completedAt! >= createdAt && expiresAt! > completedAt!);
    },
  },
  {
    name: 'finds nothing under a free key, whether nothing was there or its time is over',
    async run(bench) {
      const old = await bench.completed(soonExpired());
      await bench.pass();
      assert.equal(await bench.store.find(old.identity), undefined);
      assert.equal(await bench.store.find(anIdentity()), undefined);
    },
  },
  {
    name: 'forgets what is done or lost, and leaves what is live',
    async run(bench) {
      const old = await bench.completed(soonExpired());
      const lost = await bench.lost();
      const [done, sealed, open, live] = [await bench.completed(), await bench.sealed(), await bench.opened(), await bench.owned()];
      for (const { identity } of [done, sealed, open, lost]) {
        assert.equal(await bench.store.forget(identity), 'removed');
        assert.equal(await bench.store.find(identity), undefined);
      }
      assert.equal(await bench.store.forget(live.identity), 'live');
      assert.equal(await bench.stateOf(live), 'running');
      assert.equal(await bench.store.forget(old.identity), 'absent');
      assert.equal(await bench.store.forget(anIdentity()), 'absent');
    },
  },
  {
    name: 'forgets all of a scope but the live ones, in bites of any size, and nobody else’s',
    async run(bench) {
      await bench.lost(soonLost(anIdentity({ scope: 'a' })));
      for (let n = 0; n < 4; n += 1) await bench.completed(inScope('a'));
      await bench.opened(inScope('a'));
      const live = await bench.owned(inScope('a'));
      const others = [await bench.completed(inScope('A')), await bench.completed(inScope(''))];
      assert.equal(await bench.store.forgetScope('a', 2), 6);
      assert.equal(await bench.stateOf(live), 'running');
      for (const other of others) assert.equal(await bench.stateOf(other), 'completed');
      assert.equal(await bench.store.forgetScope('', 10), 1);
      assert.equal(await bench.store.forgetScope('nobody', 10), 0);
    },
  },
  {
    name: 'counts records by state, the expired apart, and knows since when the oldest is lost',
    async run(bench) {
      assert.deepEqual(await bench.store.stats(), { running: 0, lost: 0, completed: 0, sealed: 0, open: 0, expired: 0 });
      await bench.completed(soonExpired());
      await bench.sealed(soonExpired());
      const oldest = await bench.lost();
      await bench.lost();
      await bench.owned();
      await bench.completed();
      await bench.sealed();
      await bench.opened();
      const { oldestLost, ...counts } = await bench.store.stats();
      assert.deepEqual(counts, { running: 1, lost: 2, completed: 1, sealed: 1, open: 1, expired: 2 });
      assert.deepEqual(oldestLost, (await bench.store.find(oldest.identity))?.lockedUntil);
    },
  },
  {
    name: 'reaps what has expired, in bites, and never what is running or lost',
    async run(bench) {
      for (let n = 0; n < 3; n += 1) await bench.completed(soonExpired());
      await bench.sealed(soonExpired());
      await bench.opened(soonExpired());
      const lost = await bench.lost(aClaim(undefined, { leaseMs: BRIEF, retentionMs: BRIEF }));
      const [kept, live] = [await bench.completed(), await bench.owned()];
      const bites = [await bench.store.reap(2), await bench.store.reap(2), await bench.store.reap(2), await bench.store.reap(2)];
      assert.deepEqual(bites, [2, 2, 1, 0]);
      assert.deepEqual([await bench.stateOf(lost), await bench.stateOf(kept), await bench.stateOf(live)], ['lost', 'completed', 'running']);
    },
  },
  {
    name: 'may be reaped by several at once: each record is counted once',
    async run(bench) {
      for (let n = 0; n < 10; n += 1) await bench.completed(soonExpired());
      await bench.pass();
      const removed = await bench.together(() => bench.store.reap(100));
      assert.equal(
        removed.reduce((sum, count) => sum + count, 0),
        10,
      );
    },
  },
  ...unsettled.flatMap(([state, make]): Case[] => [
    {
      name: `gives a ${state} record an answer by hand, once`,
      async run(bench) {
        const claim = await make(bench);
        const answer = anAnswer({ status: 202 });
        assert.equal(await bench.store.resolve(claim.identity, answer, HOUR), 'resolved');
        const record = await bench.found(claim);
        assert.deepEqual(record.state === 'completed' && record.answer, answer);
        assert.equal(await bench.store.resolve(claim.identity, anAnswer(), HOUR), 'completed');
        assert.equal(await bench.store.resolve(claim.identity, undefined, HOUR), 'completed');
        assert.equal((await bench.store.complete(claim, anAnswer(), HOUR, IN_TIME)).kind, 'superseded');
      },
    },
    {
      name: `frees the key of a ${state} record by hand, and its steps go`,
      async run(bench) {
        const claim = await make(bench);
        assert.equal(await bench.store.resolve(claim.identity, undefined, HOUR), 'resolved');
        assert.equal(await bench.store.resolve(claim.identity, undefined, HOUR), 'absent');
        assert.deepEqual(await bench.stepsOf(await bench.owned(again(claim))), []);
      },
    },
  ]),
  {
    name: 'resolves nothing that is running, that is not there, or whose time is over',
    async run(bench) {
      const old = await bench.sealed(soonExpired());
      await bench.pass();
      const live = await bench.owned();
      for (const answer of [undefined, anAnswer()]) {
        assert.equal(await bench.store.resolve(live.identity, answer, HOUR), 'live');
        assert.equal(await bench.store.resolve(old.identity, answer, HOUR), 'absent');
        assert.equal(await bench.store.resolve(anIdentity(), answer, HOUR), 'absent');
      }
    },
  },
  {
    name: 'makes a claim durable for its owner, and tells anybody else that it is not theirs',
    async run(bench) {
      const { late, current } = await bench.superseded();
      assert.equal(await bench.store.flush(current, IN_TIME), true);
      assert.equal(await bench.store.flush(late, IN_TIME), false);
      assert.equal(await bench.store.flush(aClaim(), IN_TIME), false);
    },
  },
  {
    name: 'hints once when somebody begins to listen, not within the call, and not after the end of it',
    async run({ store }) {
      const { id } = anIdentity();
      let hints = 0;
      store.listen(id, () => (hints += 1))();
      await new Promise<void>((resolve) => {
        const stop = store.listen(id, () => resolve(stop()));
      });
      assert.equal(hints, 0);
    },
  },
  {
    name: 'can be looked at',
    async run({ store }) {
      assert.equal(typeof (await store.inspect()).synchronousCommit, 'string');
    },
  },
];
