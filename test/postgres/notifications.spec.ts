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
  await until(async () => (await locks()) === 0);
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
    const clock = new ManualClock(); // stands still, so that nobody looks by himself
    const engine = new Engine(
      elsewhere,
      clock,
      { wants: () => false, emit: () => undefined },
      { maxWaiters: 1, transactionGuard: () => undefined },
    );
    const { identity, fingerprint, settings } = anAdmission({}, { storeTimeoutMs: IN_TIME });
    const claim = await owned(owner, aClaim(identity, { fingerprint }));
    const verdict = engine.begin({ identity, fingerprint, settings, handler: 'Payments.create', waitMs: MINUTE });
    await until(() => clock.pending > 1); // it waits: its time and the first pause
    await clock.advance(10);
    await until(async () => (await locks()) === 1);
    await owner.complete(claim, anAnswer(), HOUR, IN_TIME);
    expect(await verdict).toEqual({ kind: 'replay', answer: anAnswer() });
    await engine.close();
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
    expect(await sentDuring(settleAll)).toEqual([]);
    expect(await locks()).toBe(0);
  });

  it('any more, nothing is sent either', async () => {
    const claim = await owned(owner);
    const theirs = await listening(elsewhere, claim.id);
    expect(await locks()).toBe(1);
    theirs.stop();
    theirs.stop(); // may be said twice
    await until(async () => (await locks()) === 0);
    expect(await sentDuring(() => owner.complete(claim, anAnswer(), HOUR, IN_TIME))).toEqual([]);
  });

  it('yet, because it was stopped at once, no lock stays', async () => {
    ear(elsewhere, randomUUID()).stop();
    await heardAll(elsewhere);
    await until(async () => (await locks()) === 0);
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
