/** Stores of several processes over one database: one that waits for a record hears of its end, and nobody is told without need. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { Engine } from '../../lib/engine/engine.js';
import type { PostgresStore, PostgresStoreOptions } from '../../lib/store/postgres-store.js';
import { channelOf, tablesIn } from '../../lib/store/table-name.js';
import { migrate } from '../support/database.js';
import { ManualClock, atRest } from '../support/manual-clock.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { anAdmission } from '../unit/engine-fixture.js';
import { mute, poolerTo, stoppedClock } from './pool-fixture.js';
import { HOUR, IN_TIME, SECOND, aClaim, anAnswer, openBench, owned, type Bench } from './store-fixture.js';
import { answering, begun, sealing } from './transaction-fixture.js';

const CHANNEL = channelOf(tablesIn('public').records);
const MINUTE = 60 * SECOND;

let bench: Bench;
let owner: PostgresStore;
let elsewhere: PostgresStore;
/** Hears everything that is sent on the channel, with no lock that would say so. */
let eavesdropper: Client;
const sent: string[] = [];
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  bench = await openBench();
  owner = bench.store();
  elsewhere = bench.store();
  eavesdropper = new Client({ connectionString: bench.url });
  await eavesdropper.connect();
  eavesdropper.on('notification', ({ payload }) => sent.push(payload ?? ''));
  await eavesdropper.query(`listen ${CHANNEL}`);
});
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});
afterAll(async () => {
  await eavesdropper.end();
  await bench.close();
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + IN_TIME; // long after the test has: it must not look for ever
  while (!(await holds())) {
    if (performance.now() > giveUpAt) throw new Error('It has not come true.');
    await atRest();
  }
}

async function rowCount(text: string, values: unknown[] = []): Promise<number> {
  return (await bench.pool.query(text, values)).rowCount ?? 0;
}

/** Advisory locks in this database. The migrations' own is gone by now. */
const locks = (): Promise<number> =>
  rowCount(
    `select from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
  );

/** What others have listened to before is given back a moment later. */
const noLocks = (): Promise<void> => until(async () => (await locks()) === 0);

/** What is sent while `work` is done, by whomever: notifications come in the order of their commits. */
async function sentDuring(work: () => Promise<unknown>): Promise<readonly string[]> {
  const fence = async (): Promise<number> => {
    const payload = `fence ${randomUUID()}`;
    await bench.pool.query('select pg_notify($1, $2)', [CHANNEL, payload]);
    await until(() => sent.includes(payload));
    return sent.indexOf(payload);
  };
  const from = await fence();
  await work();
  return sent.slice(from + 1, await fence());
}

interface Ear {
  /** How often it was hinted at, the first time included, which says that it listens. */
  readonly hints: number;
  stop(): void;
}

function ear(store: PostgresStore, id: string): Ear {
  let hints = 0;
  const stop = store.listen(id, () => (hints += 1));
  closing.push(async () => stop());
  return {
    stop,
    get hints() {
      return hints;
    },
  };
}

async function listening(store: PostgresStore, id: string): Promise<Ear> {
  const ours = ear(store, id);
  await until(() => ours.hints === 1);
  return ours;
}

/** Tries again and again: that a connection has ended is noticed in its own time. */
async function listeningAgain(store: PostgresStore, inVain: () => void = () => undefined): Promise<void> {
  for (;;) {
    const next = ear(store, randomUUID());
    await pause(50);
    next.stop();
    if (next.hints > 0) return;
    inVain();
  }
}

/** Whatever was sent to this store until now has been heard. */
async function heardAll(store: PostgresStore, channel = CHANNEL): Promise<void> {
  const id = randomUUID();
  const last = await listening(store, id);
  await bench.pool.query('select pg_notify($1, $2)', [channel, id]);
  await until(() => last.hints === 2);
  last.stop();
}

/** A store whose connections can be told by their name. */
const named = (options: Partial<PostgresStoreOptions> = {}): { store: PostgresStore; name: string; backends(): Promise<number> } => {
  const name = `ear ${randomUUID()}`;
  const store = bench.store({ connection: { connectionString: bench.url, application_name: name }, ...options });
  return { store, name, backends: () => rowCount('select from pg_stat_activity where application_name = $1', [name]) };
};

describe('who listens elsewhere', () => {
  it.each<[string, (claim: ReturnType<typeof aClaim>) => Promise<unknown>]>([
    ['completed', (claim) => owner.complete(claim, anAnswer(), HOUR, IN_TIME)],
    ['sealed', (claim) => owner.seal(claim, 201, HOUR, IN_TIME)],
    ['freed', (claim) => owner.release(claim, HOUR, IN_TIME)],
    [
      'opened',
      async (claim) => {
        await owner.recordStep(claim, { name: 'charge', result: Buffer.from('1') }, IN_TIME);
        expect(await owner.release(claim, HOUR, IN_TIME)).toBe('opened');
      },
    ],
  ])('hears, once, that the record is %s', async (_, end) => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    await end(claim);
    await until(() => theirs.hints === 2);
    await heardAll(elsewhere);
    expect(theirs.hints).toBe(2);
  });

  it('hears it in every process, and of its own record only', async () => {
    const [claim, other] = [await owned(owner), await owned(owner)];
    const third = bench.store();
    const ears = [await listening(elsewhere, claim.id), await listening(elsewhere, claim.id), await listening(third, claim.id)];
    const others = await listening(third, other.id);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => ears.every(({ hints }) => hints === 2));
    await heardAll(third);
    expect(others.hints).toBe(1);
  });

  it('hears of a transaction at its COMMIT, and not before', async () => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    const transaction = await begun(owner, claim);
    expect(await transaction.write(answering(claim))).toBe(true);
    await heardAll(elsewhere);
    expect(theirs.hints).toBe(1);
    expect(await transaction.commit()).toEqual({ kind: 'committed' });
    await until(() => theirs.hints === 2);
    expect(await elsewhere.claim(aClaim(claim.identity), IN_TIME)).toMatchObject({ record: { state: 'completed' } });
  });

  it('hears of an outcome that is kept while its business rows are not', async () => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    const transaction = await begun(owner, claim);
    expect(await transaction.undo(sealing(claim, 422))).toEqual({ kind: 'committed' });
    await until(() => theirs.hints === 2);
  });

  it('hears nothing of what is rolled back, but of the release that follows', async () => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    const transaction = await begun(owner, claim);
    await transaction.write(answering(claim));
    await transaction.rollBack();
    await heardAll(elsewhere);
    expect(theirs.hints).toBe(1);
    await owner.release(claim, HOUR, IN_TIME);
    await until(() => theirs.hints === 2);
  });

  it('hears nothing of a write that was refused', async () => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    const stale = { ...claim, owner: randomUUID() };
    await owner.complete(stale, anAnswer(), HOUR, IN_TIME);
    await owner.seal(stale, 201, HOUR, IN_TIME);
    await owner.release(stale, HOUR, IN_TIME);
    await heardAll(elsewhere);
    expect(theirs.hints).toBe(1);
  });

  it('hears nothing of another schema', async () => {
    await migrate(bench, 'other shop');
    const shop = bench.store({ schema: 'other shop' });
    const claim = await owned(owner);
    await owned(shop, claim);
    const [ours, theirs] = [await listening(elsewhere, claim.id), await listening(shop, claim.id)];
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => ours.hints === 2);
    await heardAll(shop, channelOf(tablesIn('other shop').records));
    expect(theirs.hints).toBe(1);
    await shop.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => theirs.hints === 2);
  });

  it('is not told when its owner is just about to end the record, and need not be', async () => {
    const claim = await owned(owner);
    const transaction = await begun(owner, claim);
    await transaction.write(answering(claim));
    const late = ear(elsewhere, claim.id);
    await heardAll(elsewhere); // it has been asked for in vain by now: one connection serves them in turn
    await transaction.commit();
    await heardAll(elsewhere);
    expect(late.hints).toBe(0);
  });

  it('gets an answer at once, without a look in between', async () => {
    await noLocks();
    const clock = new ManualClock(); // stands still, so that nobody looks by himself
    const first = await listening(elsewhere, randomUUID()); // else it costs a connection, and a look before that
    const engine = new Engine(
      elsewhere,
      clock,
      { wants: () => false, emit: () => undefined },
      { maxWaiters: 1, transactionGuard: () => undefined },
    );
    const { identity, fingerprint, settings } = anAdmission({}, { storeTimeoutMs: IN_TIME });
    const claim = await owned(owner, aClaim(identity, { fingerprint }));
    const verdict = engine.begin({ identity, fingerprint, settings, handler: 'Payments.create', waitMs: MINUTE });
    await until(async () => (await locks()) === 2);
    first.stop();
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    expect(await verdict).toEqual({ kind: 'replay', answer: anAnswer() });
    await engine.close();
  });
});

describe('what is said of hints', () => {
  /** All that is told to who listens for `id`: hints, and whether they can be relied on. */
  const all = (store: PostgresStore, id: string): (boolean | 'hint')[] => {
    const heard: (boolean | 'hint')[] = [];
    const stop = store.listen(
      id,
      () => heard.push('hint'),
      (relies) => heard.push(relies),
    );
    closing.push(async () => stop());
    return heard;
  };
  /** A store with a connection that listens. */
  const warm = async (store: PostgresStore): Promise<PostgresStore> => {
    (await listening(store, randomUUID())).stop();
    return store;
  };

  it('is that they come, and no look is needed, where the record is at work; then that it has ended', async () => {
    const claim = await owned(owner);
    const cold = named().store;
    expect(cold.isListening()).toBe(false);
    const heard = all(cold, claim.id);
    await until(() => heard.length > 0);
    await heardAll(cold);
    expect([heard, cold.isListening()]).toEqual([[true], true]);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => heard.length > 1);
    expect(heard).toEqual([true, 'hint']);
  });

  it('is no less where several claims shared a statement', async () => {
    const store = await warm(elsewhere);
    const claims = await Promise.all(Array.from({ length: 3 }, () => owned(owner)));
    const heard = claims.map(({ id }) => all(store, id));
    await heardAll(store);
    for (const each of heard) expect(new Set(each)).toEqual(new Set([true]));
  });

  it.each<[string, (claim: ReturnType<typeof aClaim>) => Promise<unknown>]>([
    ['has ended', (claim) => owner.complete(claim, anAnswer(), HOUR, IN_TIME)],
    ['is gone', (claim) => owner.release(claim, HOUR, IN_TIME)],
  ])('is that a look is needed where the record %s', async (_, end) => {
    const store = await warm(elsewhere);
    const claim = await owned(owner);
    await end(claim);
    const heard = all(store, claim.id);
    await until(() => heard.includes('hint'));
    expect(heard.at(-2)).toBe(true);
  });

  /** The statement that listens stops before it takes its lock, and its snapshot is older than that. */
  it.each<[string, (claim: ReturnType<typeof aClaim>) => Promise<unknown>]>([
    ['committed', (claim) => owner.complete(claim, anAnswer(), HOUR, IN_TIME)],
    ['sealed', (claim) => owner.seal(claim, 201, HOUR, IN_TIME)],
    ['freed', (claim) => owner.release(claim, HOUR, IN_TIME)],
  ])('is that a look is needed where the record was %s between the snapshot and the lock', async (_, end) => {
    const [BARRIER, schema] = [7_001, `slow_${randomUUID().replaceAll('-', '')}`];
    await bench.pool.query(`
      create schema ${schema};
      create function ${schema}.pg_try_advisory_lock_shared(id bigint) returns boolean language plpgsql volatile as $$
      begin
        perform pg_advisory_lock(${BARRIER});
        perform pg_advisory_unlock(${BARRIER});
        return pg_catalog.pg_try_advisory_lock_shared(id);
      end $$`);
    const holder = await bench.pool.connect();
    try {
      const late = bench.store({ connection: { connectionString: bench.url, options: `-c search_path=${schema},pg_catalog,public` } });
      await warm(late);
      const claim = await owned(owner);
      await holder.query('select pg_advisory_lock($1)', [BARRIER]);
      const heard = all(late, claim.id);
      await until(async () => (await rowCount(`select from pg_locks where locktype = 'advisory' and not granted`)) === 1);
      const told = await sentDuring(() => end(claim));
      expect([told, heard]).toEqual([[], [true]]); // nobody has held the lock, so nobody is told
      await holder.query('select pg_advisory_unlock($1)', [BARRIER]);
      await until(() => heard.includes('hint'));
      await late.close();
    } finally {
      holder.release();
      await bench.pool.query(`drop schema ${schema} cascade`);
    }
  });

  it('is that they can’t be relied on where the owner is just about to end the record', async () => {
    const store = await warm(elsewhere);
    const claim = await owned(owner);
    const transaction = await begun(owner, claim);
    await transaction.write(answering(claim));
    const heard = all(store, claim.id);
    await until(() => heard.includes(false));
    expect(heard).toEqual([true, false]);
    await transaction.commit();
  });

  it('is over when the connection is killed', async () => {
    const { store, name } = named();
    const claim = await owned(owner);
    const heard = all(store, claim.id);
    await until(() => heard.includes(true));
    await bench.pool.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [name]);
    await until(() => heard.includes(false));
    expect([heard, store.isListening()]).toEqual([[true, false], false]);
  });

  it('is nothing where tables are sharded: there they may stay away', async () => {
    const store = bench.store({ sharedStatements: false });
    const claim = await owned(owner);
    const heard = all(store, claim.id);
    await until(() => heard.length > 0);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => heard.length > 1);
    expect(heard).toEqual(['hint', 'hint']);
  });
});

describe('a lock that is needed no more', () => {
  it('is given back with the next one that is taken, without a statement of its own', async () => {
    await noLocks();
    const [clock, statements] = [stoppedClock(), [] as string[]];
    const store = bench.store({ clock, onStatement: (name) => statements.push(name) });
    for (let i = 0; i < 3; i += 1) {
      const theirs = await listening(store, randomUUID());
      expect(await locks()).toBe(1);
      theirs.stop();
    }
    const id = randomUUID();
    for (const each of [await listening(store, id), await listening(store, id)]) each.stop(); // its lock was taken twice
    await listening(store, randomUUID());
    clock.advance(SECOND);
    await atRest();
    expect(await locks()).toBe(1);
    expect(statements.filter((name) => name !== 'idempotency_attend')).toEqual(['idempotency_is_direct', 'idempotency_listen']);
    await store.close();
  });

  it('or after a moment, all of them in one statement', async () => {
    await noLocks();
    const [clock, statements] = [stoppedClock(), [] as string[]];
    const store = bench.store({ clock, onStatement: (name) => statements.push(name) });
    const ears = await Promise.all(Array.from({ length: 3 }, () => listening(store, randomUUID())));
    for (const each of ears) each.stop();
    await heardAll(owner);
    await until(async () => (await locks()) >= 3);
    clock.advance(SECOND);
    await until(async () => statements.includes('idempotency_leave'));
    await noLocks();
    expect(statements.filter((name) => name === 'idempotency_leave')).toHaveLength(1);
    clock.advance(10 * SECOND);
    await until(() => clock.waiting === 0);
  });
});

describe('when nobody listens', () => {
  it('nothing is sent, whether a record is completed, sealed or released, and no lock is left', async () => {
    const settleAll = async (): Promise<void> => {
      await owner.complete(await owned(owner), anAnswer(), HOUR, IN_TIME);
      await owner.seal(await owned(owner), 201, HOUR, IN_TIME);
      await owner.release(await owned(owner), HOUR, IN_TIME);
      const claim = await owned(owner);
      const transaction = await begun(owner, claim);
      await transaction.commit(answering(claim));
    };
    await noLocks();
    expect(await sentDuring(settleAll)).toEqual([]);
    expect(await locks()).toBe(0);
  });

  it('any more, nothing is sent either', async () => {
    await noLocks();
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    expect(await locks()).toBe(1);
    theirs.stop();
    theirs.stop(); // may be said twice
    await noLocks();
    expect(await sentDuring(() => owner.complete(claim, anAnswer(), HOUR, IN_TIME))).toEqual([]);
  });

  it('yet, because it was stopped at once, no lock stays', async () => {
    ear(elsewhere, randomUUID()).stop();
    await heardAll(elsewhere);
    await noLocks();
  });

  it('and when somebody does, no key and no scope are sent, only the digest by which a record is found', async () => {
    const claim = await owned(owner);
    await listening(elsewhere, claim.id);
    expect(await sentDuring(() => owner.complete(claim, anAnswer(), HOUR, IN_TIME))).toEqual([claim.id]);
  });
});

describe('the connection', () => {
  it('is one for all, stays a while for who comes next, and is then given back', async () => {
    const clock = stoppedClock();
    const { store, backends } = named({ clock });
    expect(await backends()).toBe(0);
    const [a, b] = [await listening(store, randomUUID()), await listening(store, randomUUID())];
    expect(await backends()).toBe(1);
    a.stop();
    clock.advance(MINUTE);
    b.stop();
    clock.advance(5 * SECOND);
    const c = await listening(store, randomUUID());
    clock.advance(MINUTE);
    expect(await backends()).toBe(1);
    c.stop();
    clock.advance(10 * SECOND);
    await until(async () => (await backends()) === 0 && clock.waiting === 0);
    await listening(store, randomUUID());
    expect(await backends()).toBe(1);
    await store.close();
  });

  it('is gone, with its locks, when the store is closed; nobody listens by it afterwards', async () => {
    const { store, backends } = named();
    await listening(store, randomUUID());
    await store.close();
    await until(async () => (await backends()) === 0);
    const late = ear(store, randomUUID());
    await listening(bench.store(), randomUUID()); // whoever comes later has been served
    await heardAll(bench.store());
    expect([late.hints, await backends()]).toEqual([0, 0]);
  });

  it('that is killed is replaced for who listens next; who listened hears no more of it, and nothing fails', async () => {
    const { store, name, backends } = named();
    const claim = await owned(owner);
    const deaf = await listening(store, claim.id);
    await bench.pool.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [name]);
    await until(async () => (await backends()) === 0);
    await listeningAgain(store);
    expect(await backends()).toBe(1);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await heardAll(store);
    expect(deaf.hints).toBe(1);
    expect(await store.claim(aClaim(claim.identity), IN_TIME)).toMatchObject({ record: { state: 'completed' } });
  });

  it('that hangs is given up, and holds up no end of the application', async () => {
    const clock = stoppedClock();
    const proxy = await startTcpProxy(bench.url);
    const store = bench.store({ connection: { connectionString: proxy.url }, clock });
    await listening(store, randomUUID());
    proxy.hang();
    ear(store, randomUUID());
    await atRest();
    clock.advance(IN_TIME);
    await atRest();
    proxy.restore();
    await listening(store, randomUUID());
    expect(proxy.connections).toBe(2);
    proxy.hang();
    const closed = store.close();
    await atRest();
    clock.advance(SECOND);
    await closed;
    await proxy.close();
  });

  it('to a server that takes it and says nothing does not hold up the end either', async () => {
    const clock = stoppedClock();
    const server = await mute();
    const store = bench.store({ connection: { host: '127.0.0.1', port: server.port }, clock });
    ear(store, randomUUID());
    await atRest();
    const closed = store.close();
    await atRest();
    clock.advance(SECOND);
    await closed;
    await server.close();
  });

  it('takes its share of locks and no more: who comes then is left to look by itself', async () => {
    await noLocks();
    const { store } = named();
    const ears = await Promise.all(Array.from({ length: 64 }, () => listening(store, randomUUID())));
    const late = ear(store, randomUUID());
    ears[0]!.stop();
    await listening(store, randomUUID());
    expect([await locks(), late.hints]).toEqual([64, 0]);
  });

  it('with prepared statements or without', async () => {
    const claim = await owned(owner);
    const { store } = named({ preparedStatements: false });
    const theirs = await listening(store, claim.id);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    await until(() => theirs.hints === 2);
  });
});

describe('where there can be no hints', () => {
  it('because a pooler is in between: no lock is taken in a session that is not ours, and it is tried again after a minute', async () => {
    await noLocks();
    const clock = stoppedClock();
    const between = await poolerTo(bench.url);
    const store = bench.store({ connection: { connectionString: between.url }, clock });
    const claim = await owned(store);
    const theirs = ear(store, claim.id);
    await until(() => between.connections.ended === 1);
    ear(store, claim.id);
    await atRest();
    expect(await sentDuring(() => store.complete(claim, anAnswer(), HOUR, IN_TIME))).toEqual([]);
    expect([theirs.hints, await locks(), between.connections]).toEqual([0, 0, { made: 2, ended: 1 }]);
    clock.advance(MINUTE);
    ear(store, claim.id);
    await until(() => between.connections.ended === 2);
    await store.close();
    await between.close();
  });

  it('because another connection is refused: everything else works, and there are hints once it is not', async () => {
    const role = `waiter_${randomUUID().replaceAll('-', '')}`;
    await bench.pool.query(`create role ${role} login connection limit 1; grant all on all tables in schema public to ${role}`);
    const clock = stoppedClock();
    const url = Object.assign(new URL(bench.url), { username: role }).href;
    const store = bench.store({ connection: { connectionString: url }, poolSize: 1, clock });
    const claim = await owned(store);
    const theirs = ear(store, claim.id);
    await atRest();
    expect(await store.complete(claim, anAnswer(), HOUR, IN_TIME)).toEqual({ kind: 'settled' });
    await bench.pool.query(`alter role ${role} connection limit 2`);
    expect(theirs.hints).toBe(0);
    await listeningAgain(store, () => clock.advance(MINUTE));
    await store.close();
    await bench.pool.query(`drop owned by ${role}; drop role ${role}`);
  });
});
