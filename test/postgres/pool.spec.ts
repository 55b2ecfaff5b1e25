/** The module's own connections: what they are made from, how long they are waited for, and that none is left. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { EventEmitter } from 'node:events';
import { Client, DatabaseError, Pool, types, type ClientConfig, type PoolConfig, type QueryConfig } from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { systemClock } from '../../lib/contract/clock.js';
import { Columns } from '../../lib/store/columns.js';
import { PgSession } from '../../lib/store/pg-session.js';
import { PostgresStore } from '../../lib/store/postgres-store.js';
import { deadlineIn } from '../../lib/store/session.js';
import { poolConfigOf, poolConfigOfPool } from '../../lib/store/typeorm-session.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { mute, proxyTo, stoppedClock, type Proxy } from './pool-fixture.js';
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
  SECOND,
  type Bench,
} from './store-fixture.js';

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => bench.close());

const unavailable = { code: 'IDEMPOTENCY_STORE_UNAVAILABLE', cause: expect.any(Error) };

async function connectionsOf(application: string): Promise<number> {
  const { rows } = await bench.pool.query('select from pg_stat_activity where application_name = $1', [application]);
  return rows.length;
}

/** Postgres takes a moment to notice that a connection is closed. */
async function untilNoneIsLeft(application: string): Promise<void> {
  while ((await connectionsOf(application)) > 0);
}

describe('a call', () => {
  it('gives up at its deadline when Postgres takes the connection and never answers', async () => {
    const stalled = await mute();
    const clock = stoppedClock();
    const store = bench.store({
      clock,
      storeTimeoutMs: 50,
      connection: { host: '127.0.0.1', port: stalled.port, user: 'x', database: 'x' },
    });
    const claimed = store.claim(aClaim(), 5 * SECOND);
    clock.advance(5 * SECOND);
    await expect(claimed).rejects.toMatchObject(unavailable);
    expect(clock.waiting).toBe(0);
    await store.close();
    await stalled.close();
  });

  it('gives up at its deadline when a statement hangs, and takes the connection down', async () => {
    const clock = stoppedClock();
    const store = bench.store({ clock, poolSize: 1, connection: { connectionString: bench.url, application_name: 'hangs' } });
    const claim = await owned(store);
    const blocker = await bench.pool.connect();
    await blocker.query('begin');
    await blocker.query('select from idempotency_records where id = $1 for update', [claim.id]);
    const completing = store.complete(claim, anAnswer(), HOUR, 3 * SECOND);
    await bench.somebodyWaitsForALock();
    clock.advance(3 * SECOND);
    await expect(completing).rejects.toMatchObject(unavailable);
    expect(await store.find(claim.identity)).toBeDefined(); // while that statement still hangs: the only connection was replaced

    await blocker.query('rollback');
    blocker.release();
    await store.close();
    await untilNoneIsLeft('hangs');
  });

  it('waits for a free connection no longer than for an answer, and gives a late one back', async () => {
    const clock = stoppedClock();
    const store = bench.store({ clock, poolSize: 1 });
    const [held, other] = [await owned(store), await owned(store)];
    const blocker = await bench.pool.connect();
    await blocker.query('begin');
    await blocker.query('select from idempotency_records where id = $1 for update', [held.id]);
    const first = store.complete(held, anAnswer(), HOUR, 9 * SECOND);
    const queued = store.seal(other, 201, HOUR, 3 * SECOND); // shares its statement with nobody, and so needs a connection at once
    clock.advance(3 * SECOND);
    await expect(queued).rejects.toMatchObject(unavailable);

    await blocker.query('rollback');
    blocker.release();
    expect(await first).toEqual({ kind: 'settled' });
    expect(await store.seal(other, 201, HOUR, 3 * SECOND)).toEqual({ kind: 'settled' });
    expect(clock.waiting).toBe(0);
  });

  it('gets its connections back after a stall: hung attempts do not fill the pool for good', async () => {
    const stalled = await mute();
    const store = bench.store({
      poolSize: 2,
      storeTimeoutMs: 50,
      connection: { host: '127.0.0.1', port: stalled.port, user: 'x', database: 'x' },
    });
    for (let n = 0; n < 3; n += 1) {
      await expect(Promise.all([store.stats(), store.stats(), store.stats()])).rejects.toMatchObject(unavailable);
    }
    await store.close();
    await stalled.close();
  });

  it('fails with the refusal when nothing listens', async () => {
    const { port, close } = await mute();
    await close();
    const store = bench.store({ connection: { host: '127.0.0.1', port, user: 'x', database: 'x' } });
    await expect(store.claim(aClaim(), IN_TIME)).rejects.toMatchObject({ ...unavailable, cause: { code: 'ECONNREFUSED' }, unsent: true });
  });

  it('fails with Postgres’ own error, whatever that is', async () => {
    const store = bench.store({ schema: 'nowhere' });
    await expect(store.claim(aClaim(), IN_TIME)).rejects.toMatchObject({ ...unavailable, cause: { code: '42P01' }, unsent: false });
  });

  it('is not told as never sent when it was sent before, and could not be sent again', async () => {
    const line = await startTcpProxy(bench.url);
    const store = bench.store({ poolSize: 1, connection: { connectionString: line.url } });
    await owned(store);
    const claim = aClaim();
    void line.loseAnswerTo('idempotency_claim').then(line.cut);
    await expect(store.claim(claim, IN_TIME)).rejects.toMatchObject({ ...unavailable, unsent: false });
    expect(await bench.store().find(claim.identity)).toMatchObject({ state: 'running' });
    await line.close();
  });

  it('reads its own way, whatever the application has made of the driver’s parsers', async () => {
    const { BOOL, BYTEA, FLOAT8, INT2, INT4, INT8, TEXT, TIMESTAMPTZ } = types.builtins;
    const changed = [BOOL, BYTEA, FLOAT8, INT2, INT4, INT8, TEXT, TIMESTAMPTZ].map((type) => [type, types.getTypeParser(type)] as const);
    try {
      for (const [type] of changed) types.setTypeParser(type, () => 'never');
      const store = bench.store();
      const claim = await completed(store);
      expect((await store.find(claim.identity))?.createdAt).toBeInstanceOf(Date);
      expect(await store.claim(aClaim(claim.identity), IN_TIME)).toMatchObject({
        record: { answer: anAnswer(), fingerprint: claim.fingerprint },
      });
    } finally {
      for (const [type, parser] of changed) types.setTypeParser(type, parser);
    }
  });
});

describe('the driver', () => {
  const endInAllWays = async (store: PostgresStore): Promise<void> => {
    const claim = await completed(store);
    const [answered, free] = [aClaim(claim.identity), aClaim()];
    expect(await Promise.all([answered, free].map((each) => store.claim(each, IN_TIME)))).toMatchObject([
      { kind: 'found', record: { attempt: 1, fingerprint: claim.fingerprint, answer: anAnswer() } },
      { kind: 'claimed', attempt: 1 },
    ]);
    expect(await store.renew([renewal(free)], IN_TIME)).toEqual([free.id]);
    expect(await store.complete(claim, anAnswer(), HOUR, IN_TIME)).toMatchObject({ kind: 'settled' });
    expect(await store.release(free, HOUR, IN_TIME)).toBe('freed');
    expect(await store.find(claim.identity)).toMatchObject({ state: 'completed', attempt: 1, status: 201 });
    expect((await store.stats()).completed).toBeGreaterThan(0);
    await expect(store.seal({ ...free, id: 'no uuid' }, 201, HOUR, IN_TIME)).rejects.toMatchObject({ cause: { code: '22P02' } });
    expect(await store.forget(claim.identity)).toBe('removed');
  };
  const madeBy = (driver: unknown, options: object = {}) =>
    bench.store({ connection: { connectionString: bench.url, Client: driver as PoolConfig['Client'] }, ...options });

  it.each([true, false])('is not asked to describe what we know (prepared statements: %s)', async (preparedStatements) => {
    let described = 0;
    class Watched extends Client {
      constructor(config: ClientConfig) {
        super(config);
        (this as unknown as { connection: EventEmitter }).connection.on('rowDescription', () => (described += 1));
      }
    }
    await endInAllWays(madeBy(Watched, { preparedStatements }));
    expect(described).toBe(0);
  });

  /** As one that `pg-native` makes: it knows none of the driver's inside, and reads its own way whatever it is told. */
  it('may be another one', async () => {
    class Strange extends Client {
      constructor(config: ClientConfig) {
        super(config);
        return new Proxy(this, {
          get(target, property) {
            if (property === 'connection') return undefined;
            const value: unknown = Reflect.get(target, property, target);
            if (property === 'query') return (query: QueryConfig) => target.query({ ...query, types: undefined });
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
      }
    }
    await endInAllWays(madeBy(Strange));
  });

  it('may be watched by a tracer that writes its context into texts, where those have no name', async () => {
    class Traced extends Client {
      override query(...[sent, ...more]: unknown[]): never {
        const commented =
          'name' in (sent as object) ? sent : { ...(sent as QueryConfig), text: `${(sent as QueryConfig).text} /* traced */` };
        return super.query(commented as never, ...(more as [])) as never;
      }
    }
    await endInAllWays(madeBy(Traced));
  });

  it('may have a time limit of its own', async () => {
    const store = bench.store({ poolSize: 1, connection: { connectionString: bench.url, query_timeout: 500 } });
    const claim = await owned(store);
    const blocker = await bench.pool.connect();
    await blocker.query('begin');
    await blocker.query('select from idempotency_records where id = $1 for update', [claim.id]);
    await expect(store.seal(claim, 201, HOUR, IN_TIME)).rejects.toMatchObject({ ...unavailable, cause: { message: 'Query read timeout' } });
    await blocker.query('rollback');
    blocker.release();
    expect(await store.find(claim.identity)).toBeDefined();
  });
});

describe('close', () => {
  it('leaves no connection, and what is still under way fails', async () => {
    const store = bench.store({ connection: { connectionString: bench.url, application_name: 'closing' } });
    const claim = await owned(store);
    const blocker = await bench.pool.connect();
    await blocker.query('begin');
    await blocker.query('select from idempotency_records where id = $1 for update', [claim.id]);
    const completing = store.complete(claim, anAnswer(), HOUR, IN_TIME);
    await bench.somebodyWaitsForALock();
    await Promise.all([store.close(), expect(completing).rejects.toMatchObject(unavailable)]);
    await blocker.query('rollback');
    blocker.release();
    await untilNoneIsLeft('closing');
  });

  it('may be called twice, and nothing is sent afterwards', async () => {
    const store = bench.store();
    await Promise.all([store.close(), store.close()]);
    await store.close();
    await expect(store.claim(aClaim(), IN_TIME)).rejects.toMatchObject(unavailable);
  });
});

describe('a connection that breaks', () => {
  let proxy: Proxy;
  beforeAll(async () => {
    proxy = await proxyTo(bench.url);
  });
  afterAll(() => proxy.close());

  const throughProxy = (poolSize = 1) => {
    const url = Object.assign(new URL(bench.url), { port: String(proxy.port) });
    return bench.store({ poolSize, connection: { connectionString: url.href } });
  };

  it.each(['statement', 'answer'] as const)('at its next use, before the %s got through, costs a claim nothing', async (moment) => {
    const store = throughProxy(4);
    await Promise.all(Array.from({ length: 4 }, () => owned(store)));
    proxy.cutAt(moment);
    const claims = Array.from({ length: 8 }, () => aClaim());
    expect(await Promise.all(claims.map((claim) => store.claim(claim, IN_TIME)))).toEqual(
      claims.map(() => ({ kind: 'claimed', attempt: 1 })),
    );
  });

  it('leaves an owner’s write carried out once and told as done', async () => {
    const store = throughProxy();
    const cut = async <T>(call: () => Promise<T>): Promise<T> => {
      await store.stats(); // so that the connection is one that has served
      proxy.cutAt('answer');
      return call();
    };
    const [answered, sealed, lost] = [await owned(store), await owned(store), await owned(store)];
    expect(await cut(() => store.complete(answered, anAnswer(), HOUR, IN_TIME))).toEqual({ kind: 'settled' });
    expect(await cut(() => store.seal(sealed, 200, HOUR, IN_TIME))).toEqual({ kind: 'settled' });
    expect(await cut(() => store.renew([renewal(lost)], IN_TIME))).toEqual([lost.id]);

    await bench.alter(lost.id, LEASE_PASSED);
    const second = aClaim(lost.identity);
    const found = await store.claim(second, IN_TIME);
    if (found.kind !== 'found') throw new Error('Not found.');
    expect(await cut(() => store.takeOver(second, found.record, IN_TIME))).toEqual({ kind: 'taken', attempt: 2 });

    await bench.alter(answered.id, EXPIRED);
    expect(await cut(() => store.claim(aClaim(answered.identity), IN_TIME))).toEqual({ kind: 'claimed', attempt: 1 });
  });

  it('fails the call when it was a new one: that is no dead connection but a broken server', async () => {
    const made = proxy.made;
    proxy.cutNewOnesAt('statement');
    await expect(throughProxy().claim(aClaim(), IN_TIME)).rejects.toMatchObject(unavailable);
    expect(proxy.made).toBe(made + 1);
    proxy.cutNewOnesAt(undefined);
  });

  it('while idle disturbs nobody', async () => {
    const store = bench.store({ connection: { connectionString: bench.url, application_name: 'idle' } });
    await owned(store);
    await bench.pool.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'idle'`);
    await untilNoneIsLeft('idle');
    expect(await store.claim(aClaim(), IN_TIME)).toMatchObject({ kind: 'claimed' });
  });
});

describe('statements', () => {
  const preparedOn = async (preparedStatements: boolean): Promise<unknown> => {
    const connection = { connectionString: bench.url };
    const session = new PgSession({ connection, preparedStatements, poolSize: 1, connectTimeoutMs: IN_TIME, clock: systemClock });
    const application = { pool: bench.pool };
    const notifications = { listen: () => () => undefined, isListening: () => false, close: async () => undefined };
    const common = {
      application,
      schema: 'public',
      preparedStatements,
      sharedStatements: true,
      storeTimeoutMs: IN_TIME,
      clock: systemClock,
    };
    const store = new PostgresStore({ session, notifications, ...common });
    await completed(store);
    await completed(store);
    const columns = new Columns<{ readonly name: string }>({ name: 'text' });
    const look = { name: 'look', columns, text: `select name from pg_prepared_statements where name <> 'look' order by name` };
    const { rows } = await session.run(look, [], deadlineIn(systemClock, IN_TIME));
    await store.close();
    return rows;
  };

  it('are prepared under their names', async () => {
    expect(await preparedOn(true)).toEqual([{ name: 'idempotency_claim' }, { name: 'idempotency_complete' }]);
  });

  describe('that a connection has forgotten', () => {
    const NUMBERS = new Columns<{ readonly id: number }>({ id: 'number' });
    const READ = { name: 'idempotency_read', columns: NUMBERS, text: 'select id from changing order by id' };
    let sent: string[];
    let session: PgSession;
    const run = (name: string, text: string) => session.run({ name, text }, [], deadlineIn(systemClock, IN_TIME));
    const read = () => session.run(READ, [], deadlineIn(systemClock, IN_TIME));

    beforeEach(() => {
      sent = [];
      const settings = { connection: { connectionString: bench.url }, preparedStatements: true, poolSize: 1, connectTimeoutMs: IN_TIME };
      session = new PgSession({ ...settings, clock: systemClock, onStatement: (name) => sent.push(name) });
    });
    afterEach(() => session.close());
    beforeAll(() => bench.pool.query('create table changing as select 1 as id'));

    it.each([
      ['deallocate all', { id: 2 }],
      ['discard all', { id: 3 }],
      ['alter table changing alter id type bigint', { id: 4 }],
    ])('by %s are prepared once more, on the same connection, and nobody notices', async (text, added) => {
      const { backend } = await read();
      await run('idempotency_forget', text);
      expect(await read()).toMatchObject({ backend, rows: expect.arrayContaining([{ id: 1 }]) });
      expect(sent).toEqual(['idempotency_read', 'idempotency_forget', 'idempotency_read', 'idempotency_read']);
      const insert = { name: 'idempotency_insert', text: 'insert into changing values ($1)' };
      const add = () => session.run(insert, [added.id], deadlineIn(systemClock, IN_TIME));
      await add();
      await run('idempotency_forget', 'deallocate all');
      expect(await add()).toMatchObject({ backend, count: 1 });
      expect((await read()).rows.filter(({ id }) => id === added.id)).toHaveLength(2);
    });

    it('fail where they are forgotten for good, and are tried no third time', async () => {
      const refusal = Object.assign(new DatabaseError('It does not exist.', 0, 'error'), { severity: 'ERROR', code: '26000' });
      const submitted: object[] = [];
      await read();
      const watched = jest.spyOn(Client.prototype, 'query').mockImplementation(((trip: { callback(error: unknown): void }) => {
        submitted.push(trip);
        process.nextTick(() => trip.callback(refusal));
      }) as never);
      try {
        await expect(read()).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', cause: refusal });
      } finally {
        watched.mockRestore();
      }
      expect(submitted).toHaveLength(2);
    });
  });

  it('are not prepared where a pooler could not follow', async () => {
    expect(await preparedOn(false)).toEqual([]);
  });
});

describe('the settings', () => {
  const settingsOf = (options: object) => poolConfigOf({ options: options as DataSourceOptions });
  const tls = { ca: 'a certificate', key: 'a secret' };

  it('are the DataSource’s, as TypeORM would use them', () => {
    const password = () => 'from a vault';
    expect(
      settingsOf({
        type: 'postgres',
        host: 'db',
        port: 5433,
        username: 'shop',
        password,
        database: 'orders',
        ssl: tls,
        applicationName: 'shop',
        connectTimeoutMS: 900,
        extra: { keepAlive: true, port: 6432 },
      }),
    ).toMatchObject({
      host: 'db',
      port: 6432,
      user: 'shop',
      password,
      database: 'orders',
      ssl: tls,
      application_name: 'shop',
      connectionTimeoutMillis: 900,
      keepAlive: true,
    });
    expect(settingsOf({ type: 'postgres', url: 'postgres://db/orders' })).toMatchObject({ connectionString: 'postgres://db/orders' });
  });

  it('are the master’s where there are replicas', () => {
    const replication = { master: { host: 'first', applicationName: 'shop' }, slaves: [{ host: 'second' }] };
    expect(settingsOf({ type: 'postgres', host: 'ignored', replication })).toMatchObject({ host: 'first', application_name: 'shop' });
  });

  it('are refused for another database, with the remedy', () => {
    expect(() => settingsOf({ type: 'mysql' })).toThrow(TypeError);
    expect(() => settingsOf({ type: 'mysql' })).toThrow(/'mysql'.*Give the module a DataSource of type 'postgres'/);
  });

  it('are a Pool’s, with the password and the TLS key that it hides', async () => {
    const pool = new Pool({ host: 'db', password: 'secret', ssl: { ...tls }, max: 30 });
    const settings = poolConfigOfPool(pool);
    expect(settings).toMatchObject({ host: 'db', password: 'secret' });
    expect((settings.ssl as typeof tls).key).toBe(tls.key);
    await pool.end();
  });

  it('lead to the application’s database, and the pool is no larger than its own size', async () => {
    const dataSource = new DataSource({
      type: 'postgres',
      url: bench.url,
      applicationName: 'shop',
      poolSize: 30,
      extra: { binary: true, pipeline: true },
    });
    const store = bench.store({ connection: poolConfigOf(dataSource), poolSize: 2, sharedStatements: false });
    const claims = await Promise.all(Array.from({ length: 10 }, () => completed(store)));
    expect(await connectionsOf('shop')).toBe(2);
    expect(await store.claim(aClaim(claims[0]!.identity), IN_TIME)).toMatchObject({ record: { answer: anAnswer() } });
  });

  it('make connections that can be told in pg_stat_activity even where the application has no name', async () => {
    await owned(bench.store());
    expect(await connectionsOf('nestjs-idempotency-pg')).toBeGreaterThan(0);
  });
});
