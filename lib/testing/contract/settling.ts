/** How an execution ends: what its owner may write, and that nobody else may. */
import assert from 'node:assert/strict';
import { aClaim, again, anAnswer, BRIEF, HOUR, IN_TIME, leaseOf, soonLost } from './workbench.js';
import type { Case } from './workbench.js';

const STALE = anAnswer({ body: Buffer.from('stale') });
const SETTLED = { kind: 'settled' };

export const settling: readonly Case[] = [
  {
    name: 'settles a completion that is sent a second time, and the first answer stays',
    async run(bench) {
      const claim = await bench.completed();
      assert.deepEqual(await bench.store.complete(claim, STALE, HOUR, IN_TIME), SETTLED);
      const record = await bench.found(claim);
      assert.deepEqual(record.state === 'completed' && record.answer, anAnswer());
    },
  },
  {
    name: 'lets a late owner complete that nobody has superseded',
    async run(bench) {
      const late = await bench.lost();
      assert.deepEqual(await bench.store.complete(late, anAnswer(), HOUR, IN_TIME), SETTLED);
      assert.equal(await bench.stateOf(late), 'completed');
    },
  },
  {
    name: 'keeps an answer for its retention, from the completion on',
    async run(bench) {
      const claim = await bench.completed();
      const { completedAt, expiresAt } = (await bench.store.find(claim.identity))!;
      assert.equal(expiresAt!.getTime() - completedAt!.getTime(), HOUR);
    },
  },
  {
    name: 'seals with the status if it is known, and again if asked to',
    async run(bench) {
      for (const status of [201, undefined]) {
        const claim = await bench.owned();
        assert.deepEqual(await bench.store.seal(claim, status, HOUR, IN_TIME), SETTLED);
        assert.deepEqual(await bench.store.seal(claim, status, HOUR, IN_TIME), SETTLED);
        assert.equal(await bench.stateOf(claim), 'sealed');
        assert.equal((await bench.store.find(claim.identity))?.status, status);
      }
    },
  },
  {
    name: 'replaces neither an answer by a seal nor a seal by an answer',
    async run(bench) {
      const [answered, sealed] = [await bench.completed(), await bench.sealed()];
      await bench.store.seal(answered, 201, HOUR, IN_TIME);
      await bench.store.complete(sealed, anAnswer(), HOUR, IN_TIME);
      assert.deepEqual([await bench.stateOf(answered), await bench.stateOf(sealed)], ['completed', 'sealed']);
    },
  },
  {
    name: 'frees a released key, once',
    async run(bench) {
      const claim = await bench.owned();
      assert.equal(await bench.store.release(claim, HOUR, IN_TIME), 'freed');
      assert.equal(await bench.store.release(claim, HOUR, IN_TIME), 'absent');
      assert.equal(await bench.stateOf(claim), undefined);
      assert.deepEqual(await bench.store.claim(again(claim), IN_TIME), { kind: 'claimed', attempt: 1 });
    },
  },
  {
    name: 'frees no key that has an answer or a seal',
    async run(bench) {
      for (const claim of [await bench.completed(), await bench.sealed()]) {
        const before = await bench.stateOf(claim);
        assert.equal(await bench.store.release(claim, HOUR, IN_TIME), 'absent');
        assert.equal(await bench.stateOf(claim), before);
      }
    },
  },
  {
    name: 'opens a released key that has steps, for its retention, and again if asked to',
    async run(bench) {
      const claim = await bench.opened();
      assert.equal(await bench.store.release(claim, HOUR, IN_TIME), 'opened');
      const { state, attempt, steps, lockedUntil, expiresAt } = (await bench.store.find(claim.identity))!;
      assert.deepEqual({ state, attempt, steps, lockedUntil }, { state: 'open', attempt: 1, steps: ['charge'], lockedUntil: undefined });
      assert.ok(expiresAt instanceof Date);
    },
  },
  {
    name: 'renews many leases at once, those that have passed too, and names them',
    async run(bench) {
      const passed = await bench.lost();
      const [one, done] = [await bench.owned(soonLost()), await bench.completed()];
      const { late } = await bench.superseded();
      const renewed = await bench.store.renew(
        [one, passed, done, late, aClaim()].map((claim) => leaseOf(claim)),
        IN_TIME,
      );
      assert.deepEqual([...renewed].sort(), [one.id, passed.id].sort());
      await bench.pass();
      assert.deepEqual([await bench.stateOf(one), await bench.stateOf(passed)], ['running', 'running']);
    },
  },
  {
    name: 'has nothing to renew when it is asked for nothing',
    async run({ store }) {
      assert.deepEqual(await store.renew([], IN_TIME), []);
    },
  },
  {
    name: 'lets a superseded owner neither complete nor seal, and tells what the record is by now',
    async run(bench) {
      const { late, current } = await bench.superseded();
      for (const settled of [await bench.store.complete(late, STALE, HOUR, IN_TIME), await bench.store.seal(late, 200, HOUR, IN_TIME)]) {
        assert.ok(settled.kind === 'superseded');
        assert.deepEqual([settled.record?.state, settled.record?.owner, settled.record?.attempt], ['running', current.owner, 2]);
      }
      await bench.store.complete(current, anAnswer(), HOUR, IN_TIME);
      const told = await bench.store.complete(late, STALE, HOUR, IN_TIME);
      assert.deepEqual(told.kind === 'superseded' && told.record?.state === 'completed' && told.record.answer, anAnswer());
      const record = await bench.found(late);
      assert.deepEqual(record.state === 'completed' && record.answer, anAnswer());
    },
  },
  {
    name: 'lets a superseded owner neither renew nor release, with or without steps',
    async run(bench) {
      for (const before of [undefined, (late: Parameters<typeof bench.record>[0]) => bench.record(late, 'charge')]) {
        const { late, current } = await bench.superseded(before);
        assert.deepEqual(await bench.store.renew([leaseOf(late)], IN_TIME), []);
        assert.equal(await bench.store.release(late, HOUR, IN_TIME), 'absent');
        const { state, owner } = await bench.found(late);
        assert.deepEqual({ state, owner }, { state: 'running', owner: current.owner });
      }
    },
  },
  {
    name: 'tells a superseded owner of no record where there is none any more, or one that has expired',
    async run(bench) {
      const nothing = { kind: 'superseded', record: undefined };
      const gone = await bench.owned();
      await bench.store.release(gone, HOUR, IN_TIME);
      assert.deepEqual(await bench.store.complete(gone, anAnswer(), HOUR, IN_TIME), nothing);
      const { late, current } = await bench.superseded();
      await bench.store.complete(current, anAnswer(), BRIEF, IN_TIME);
      await bench.pass();
      assert.deepEqual(await bench.store.complete(late, anAnswer(), HOUR, IN_TIME), nothing);
    },
  },
];

export const steps: readonly Case[] = [
  {
    name: 'keeps names and results of steps byte for byte, in order',
    async run(bench) {
      const claim = await bench.owned();
      const results = ['{"id":"ch_1"}', '', 'null', `"${'Žofie 🛶'.repeat(20)}"`];
      for (const [n, result] of results.entries()) assert.equal(await bench.record(claim, `step ${9 - n}`, result), true);
      assert.deepEqual(
        await bench.stepsOf(claim),
        results.map((result, n) => [`step ${9 - n}`, result]),
      );
      assert.deepEqual((await bench.store.find(claim.identity))?.steps, ['step 9', 'step 8', 'step 7', 'step 6']);
    },
  },
  {
    name: 'tells names of steps apart that differ in case alone',
    async run(bench) {
      const claim = await bench.owned();
      await bench.record(claim, 'a', '1');
      await bench.record(claim, 'A', '2');
      assert.deepEqual(await bench.stepsOf(claim), [
        ['a', '1'],
        ['A', '2'],
      ]);
    },
  },
  {
    name: 'counts a step as recorded when its owner repeats it, and the first result stays',
    async run(bench) {
      const claim = await bench.owned();
      assert.equal(await bench.record(claim, 'charge', '1'), true);
      assert.equal(await bench.record(claim, 'charge', '2'), true);
      assert.deepEqual(await bench.stepsOf(claim), [['charge', '1']]);
    },
  },
  {
    name: 'records no step for an owner that is superseded, has given an answer, has given the key back, or never had it',
    async run(bench) {
      const { late, current } = await bench.superseded();
      const [done, gone] = [await bench.completed(), await bench.owned()];
      await bench.store.release(gone, HOUR, IN_TIME);
      for (const claim of [late, done, gone, aClaim()]) assert.equal(await bench.record(claim, 'charge'), false);
      assert.deepEqual(await bench.stepsOf(current), []);
    },
  },
  {
    name: 'does not replace what the owner before has recorded, and says so',
    async run(bench) {
      const { late, current } = await bench.superseded((first) => bench.record(first, 'charge', '"first"'));
      assert.equal(await bench.record(current, 'charge', '"second"'), false);
      assert.deepEqual(await bench.stepsOf(current), [['charge', '"first"']]);
      assert.deepEqual(await bench.stepsOf(late), []);
    },
  },
  {
    name: 'forgets the steps of a key that was forgotten',
    async run(bench) {
      const first = await bench.opened();
      assert.equal(await bench.store.forget(first.identity), 'removed');
      const second = await bench.owned(again(first));
      assert.deepEqual(await bench.stepsOf(second), []);
      assert.equal(await bench.store.release(second, HOUR, IN_TIME), 'freed');
    },
  },
];
