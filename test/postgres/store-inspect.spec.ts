/** What is told at boot, and that the tables may be anywhere. */
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import type { ConnectionLimit } from '../../lib/contract/store.js';
import { tablesIn } from '../../lib/store/table-name.js';
import { poolerTo } from './pool-fixture.js';
import { aClaim, anAnswer, completed, HOUR, IN_TIME, openBench, owned } from './store-fixture.js';

describe('inspect', () => {
  it('finds nothing wrong with what the migrations make, and tells synchronous_commit', async () => {
    const bench = await openBench();
    expect(await bench.store().inspect()).toMatchObject({ synchronousCommit: 'on' });
    const careless = bench.store({ connection: { connectionString: bench.url, options: '-c synchronous_commit=off' } });
    expect(await careless.inspect()).toMatchObject({ synchronousCommit: 'off' });
    await bench.close();
  });

  it('tells how many connections there may be: the narrowest limit for this role in this database', async () => {
    const bench = await openBench();
    const role = `shop_${randomUUID().replaceAll('-', '')}`;
    const database = new URL(bench.url).pathname.slice(1);
    const setting = async (name: string): Promise<number> => {
      const { rows } = await bench.pool.query<{ n: number }>(`select coalesce(current_setting($1, true)::int, 0) as n`, [name]);
      return rows[0]!.n;
    };
    const [all, forSuperusers, forSome] = await Promise.all(
      ['max_connections', 'superuser_reserved_connections', 'reserved_connections'].map(setting),
    );
    const limitOf = async (user?: string): Promise<ConnectionLimit | undefined> => {
      const url = user === undefined ? bench.url : Object.assign(new URL(bench.url), { username: user }).href;
      const store = bench.store({ connection: { connectionString: url } });
      const { connectionLimit } = await store.inspect();
      await store.close();
      return connectionLimit;
    };
    try {
      await bench.pool.query(`create role ${role} login`);
      expect(await limitOf(role)).toEqual({ connections: all! - forSuperusers! - forSome!, of: 'server' });
      await bench.pool.query(`alter database ${database} connection limit 40`);
      expect(await limitOf(role)).toEqual({ connections: 40, of: 'database' });
      await bench.pool.query(`alter role ${role} connection limit 5`);
      expect(await limitOf(role)).toEqual({ connections: 5, of: 'role' });
      await bench.pool.query(`alter role ${role} connection limit 50`);
      expect(await limitOf(role)).toEqual({ connections: 40, of: 'database' });
      expect(await limitOf()).toEqual({ connections: all!, of: 'server' }); // a superuser
      await bench.pool.query(`alter role ${role} superuser`);
      expect(await limitOf(role)).toEqual({ connections: all!, of: 'server' });
    } finally {
      await bench.pool.query(`drop role ${role}`);
      await bench.close();
    }
  });

  it('does not tell what a pooler hides', async () => {
    const bench = await openBench();
    const pooler = await poolerTo(bench.url);
    const store = bench.store({ connection: { connectionString: pooler.url } });
    expect(await store.inspect()).toEqual({ synchronousCommit: 'on', connectionLimit: undefined });
    await store.close();
    await pooler.close();
    await bench.close();
  });

  it.each(['idempotency_records', 'idempotency_steps'])('reports a missing table (%s) with the command that makes it', async (table) => {
    const bench = await openBench();
    await bench.pool.query(`drop table ${table}`);
    await expect(bench.store().inspect()).rejects.toMatchObject({
      code: 'IDEMPOTENCY_SCHEMA_MISSING',
      message: expect.stringMatching(new RegExp(`${table}.*typeorm migration:run`)),
    });
    await bench.close();
  });

  it('reports a missing schema in the same way', async () => {
    const bench = await openBench();
    await expect(bench.store({ schema: 'nowhere' }).inspect()).rejects.toMatchObject({ code: 'IDEMPOTENCY_SCHEMA_MISSING' });
    await bench.close();
  });

  it.each([
    ['lacks a column', 'alter table idempotency_records drop column reap_after'],
    ['has a column of another type', 'alter table idempotency_records alter column body type text'],
    ['has nothing that makes ids unique', 'alter table idempotency_records drop constraint idempotency_records_pkey'],
    ['lacks a column of a step', 'alter table idempotency_steps drop column position'],
    [
      'has nothing that makes steps unique',
      'alter table idempotency_steps drop constraint idempotency_steps_pkey; create unique index on idempotency_steps (id, life, name) where position > 1; create unique index on idempotency_steps (id, life)',
    ],
  ])('reports a table that %s', async (_, change) => {
    const bench = await openBench();
    await bench.pool.query(change);
    await expect(bench.store().inspect()).rejects.toMatchObject({
      code: 'IDEMPOTENCY_SCHEMA_OUTDATED',
      message: expect.stringContaining('typeorm migration:run'),
    });
    await bench.close();
  });

  it('does not mind columns of a later version', async () => {
    const bench = await openBench();
    await bench.pool.query('alter table idempotency_records add column more text');
    await expect(bench.store().inspect()).resolves.toBeDefined();
    await bench.close();
  });

  it('says that Postgres is away when it is', async () => {
    const bench = await openBench();
    const store = bench.store({ connection: { connectionString: `${bench.url}_gone` } });
    await expect(store.inspect()).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', cause: { code: '3D000' } });
    await bench.close();
  });
});

describe('a schema', () => {
  it.each(['payments', 'Payments', 'pay ments', `it's "quoted"`, 'a.b', '$$', 'public"; drop table x; --', 'ž'.repeat(31)])(
    'may be called %s',
    async (schema) => {
      const bench = await openBench(schema);
      const store = bench.store({ schema });
      await store.inspect();
      const claim = await completed(store);
      expect(await store.claim(aClaim(claim.identity), IN_TIME)).toMatchObject({ record: { answer: anAnswer() } });
      await store.renew([{ ...(await owned(store)), leaseMs: HOUR }], IN_TIME);
      expect(await store.stats()).toMatchObject({ running: 1, completed: 1 });
      expect([await store.reap(10), await store.forgetScope('id=1', 10), await bench.count()]).toEqual([0, 1, 1]);
      await bench.close();
    },
  );

  it.each(['', 'x'.repeat(64), 'ž'.repeat(32), 'nul\0'])('may not be called %j', (schema) => {
    expect(() => tablesIn(schema)).toThrow(TypeError);
  });
});
