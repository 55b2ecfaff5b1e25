import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Controller, Injectable, Module, Post } from '@nestjs/common';
import type { DynamicModule, INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Pool } from 'pg';
import { DataSource } from 'typeorm';
import { Idempotent, IdempotencyModule, IdempotencyOptionsError, IdempotencyService } from '../../lib/index.js';
import type { IdempotencyModuleOptions, IdempotencyOptionsFactory } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { Platform } from '../support/app.js';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { until } from './support/stage.js';
import { codeOf, isReplay, send } from './support/wire.js';

let database: TestDatabase;
/** Without our tables. */
let bare: TestDatabase;

beforeAll(async () => {
  [database, bare] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  await migrate(database);
});
afterAll(() => Promise.all([database.drop(), bare.drop()]));

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  pay(): object {
    return { paid: true };
  }

  @Idempotent({ ttl: '1h' })
  @Post('short-lived')
  shortLived(): object {
    return {};
  }

  @Idempotent({ ttl: '1m', keyFrom: { body: 'id' } })
  @Post('natural')
  natural(): object {
    return {};
  }
}

interface Boot {
  readonly imports: (DynamicModule | Type)[];
  readonly controllers?: Type[];
  readonly platform?: Platform;
}

/** Starts a root module that is made of `imports`; the application is closed afterwards, if it started. */
async function boot<T>(
  { imports, controllers = [Payments], platform = 'express' }: Boot,
  work: (started: { app: INestApplication; url: string; journal: Journal }) => Promise<T>,
): Promise<T> {
  @Module({ imports, controllers })
  class Root {}
  const journal = new Journal();
  const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter();
  const app = await NestFactory.create<INestApplication>(Root, adapter, {
    logger: journal,
    abortOnError: false,
    forceCloseConnections: true,
  });
  try {
    await app.listen(0, '127.0.0.1');
    return await work({ app, url: (await app.getUrl()).replace('[::1]', '127.0.0.1'), journal });
  } finally {
    await app.close();
  }
}

const nothing = async (): Promise<void> => undefined;

async function works(url: string): Promise<void> {
  const key = newKey();
  expect((await send(`${url}/payments`, { key })).status).toBe(201);
  expect(isReplay(await send(`${url}/payments`, { key }))).toBe(true);
}

const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'It started.',
    (error: Error) => error.message,
  );

describe('the ways to import the module', () => {
  const typeOrm = (url: string) => TypeOrmModule.forRoot({ type: 'postgres', url, retryAttempts: 0 });

  it.each(PLATFORMS)('forRoot() without arguments, in an application with a TypeORM DataSource, on %s', (platform) =>
    boot({ platform, imports: [typeOrm(database.url), IdempotencyModule.forRoot()] }, ({ url }) => works(url)),
  );

  it('in whatever order the two are imported', () =>
    boot({ imports: [IdempotencyModule.forRoot(), typeOrm(database.url)] }, ({ url }) => works(url)));

  it('forRoot({ pool })', () => boot({ imports: [IdempotencyModule.forRoot({ pool: database.pool })] }, ({ url }) => works(url)));

  it('forRoot({ dataSource }), which need not be connected', () =>
    boot({ imports: [IdempotencyModule.forRoot({ dataSource: new DataSource({ type: 'postgres', url: database.url }) })] }, ({ url }) =>
      works(url),
    ));

  it('forRoot({ pool }) of another database than the application’s own DataSource', () =>
    boot({ imports: [typeOrm(bare.url), IdempotencyModule.forRoot({ pool: database.pool })] }, ({ url }) => works(url)));

  it('forRootAsync({ inject, useFactory })', () =>
    boot(
      {
        imports: [
          typeOrm(database.url),
          IdempotencyModule.forRootAsync({ inject: [DataSource], useFactory: (dataSource: DataSource) => ({ dataSource }) }),
        ],
      },
      ({ url }) => works(url),
    ));

  it('forRootAsync({ useFactory }) with a promise', () =>
    boot({ imports: [IdempotencyModule.forRootAsync({ useFactory: async () => ({ pool: database.pool }) })] }, ({ url }) => works(url)));

  @Injectable()
  class Options implements IdempotencyOptionsFactory {
    createIdempotencyOptions(): IdempotencyModuleOptions {
      return { pool: database.pool };
    }
  }

  @Module({ providers: [Options], exports: [Options] })
  class OptionsModule {}

  it('forRootAsync({ useClass })', () =>
    boot({ imports: [IdempotencyModule.forRootAsync({ useClass: Options })] }, ({ url }) => works(url)));

  it('forRootAsync({ imports, useExisting })', () =>
    boot({ imports: [IdempotencyModule.forRootAsync({ imports: [OptionsModule], useExisting: Options })] }, ({ url }) => works(url)));

  it('exports its service to every module, or only to those that import it', async () => {
    @Injectable()
    class Audit {
      constructor(readonly service: IdempotencyService) {}
    }
    @Module({ providers: [Audit], exports: [Audit] })
    class AuditModule {}
    await boot({ imports: [IdempotencyModule.forRoot({ pool: database.pool }), AuditModule] }, async ({ app }) => {
      expect(app.get(Audit).service).toBe(app.get(IdempotencyService));
    });
    expect(
      await messageOf(boot({ imports: [IdempotencyModule.forRoot({ pool: database.pool, isGlobal: false }), AuditModule] }, nothing)),
    ).toMatch(/resolve dependencies of .*Audit/);
  });

  it('but not twice, which would count every request twice', async () => {
    @Module({ imports: [IdempotencyModule.forRoot({ pool: database.pool, ttl: '48h' })] })
    class Feature {}
    const message = await messageOf(boot({ imports: [IdempotencyModule.forRoot({ pool: database.pool }), Feature] }, nothing));
    expect(message).toMatch(/IdempotencyModule is imported more than once/);
  });
});

describe('what is wrong at the start', () => {
  it('in options is told all at once, each with its remedy', async () => {
    const options = { pool: database.pool, ttl: 'for ever', lockTtl: 5, header: 'not a header' };
    const failure = await boot({ imports: [IdempotencyModule.forRoot(options)] }, nothing).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(IdempotencyOptionsError);
    expect((failure as IdempotencyOptionsError).faults.map(({ option }) => option).sort()).toEqual(['header', 'lockTtl', 'ttl']);
  });

  it('where there is no Postgres at all, names the three ways out', async () => {
    const message = await messageOf(boot({ imports: [IdempotencyModule.forRoot()] }, nothing));
    expect(message).toMatch(/dataSource is missing.*TypeOrmModule\.forRoot.*pool/s);
  });

  it.each(PLATFORMS)('a missing table stops it, with the command that makes one, on %s', async (platform) => {
    const message = await messageOf(boot({ platform, imports: [IdempotencyModule.forRoot({ pool: bare.pool })] }, nothing));
    expect(message).toMatch(/There is no table .*idempotency_records.*idempotencyMigrations.*typeorm migration:run/s);
  });

  it('a table in another schema is a missing one', async () => {
    const message = await messageOf(boot({ imports: [IdempotencyModule.forRoot({ pool: database.pool, schema: 'elsewhere' })] }, nothing));
    expect(message).toMatch(/elsewhere/);
  });

  it('an outdated table stops it, with the command that mends it', async () => {
    const outdated = await createTestDatabase();
    try {
      await migrate(outdated);
      await outdated.pool.query('alter table idempotency_records drop column reap_after');
      const message = await messageOf(boot({ imports: [IdempotencyModule.forRoot({ pool: outdated.pool })] }, nothing));
      expect(message).toMatch(/does not fit this version.*typeorm migration:run/s);
      // A start that failed leaves no connection behind.
      const left = `select from pg_stat_activity where datname = current_database() and application_name = 'nestjs-idempotency-pg'`;
      await until(async () => (await outdated.pool.query(left)).rowCount === 0);
    } finally {
      await outdated.drop();
    }
  });
});

describe.each(PLATFORMS)('what is only worth a warning at the start on %s', (platform) => {
  it('a Postgres that can’t be reached: requests get 503, and answers as soon as it is there', async () => {
    const proxy = await startTcpProxy(database.url);
    proxy.cut();
    try {
      const options = { pool: new Pool({ connectionString: proxy.url }), storeTimeout: '300ms' };
      await boot({ platform, imports: [IdempotencyModule.forRoot(options)] }, async ({ url, journal }) => {
        expect(journal.own('warn')).toContainEqual(expect.stringMatching(/Postgres cannot be reached/));
        expect(codeOf(await send(`${url}/payments`, { key: newKey() }))).toBe('IDEMPOTENCY_STORE_UNAVAILABLE');
        proxy.restore();
        await until(async () => (await send(`${url}/payments`, { key: newKey() })).status === 201);
        await works(url);
      });
    } finally {
      await proxy.close();
    }
  });

  it('commits that do not wait for the disk', async () => {
    const careless = await createTestDatabase();
    try {
      await migrate(careless);
      await careless.pool.query(`do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$`);
      await boot({ platform, imports: [IdempotencyModule.forRoot({ pool: careless.pool })] }, async ({ journal }) => {
        expect(journal.own('warn')).toContainEqual(expect.stringMatching(/synchronous_commit is off/));
      });
    } finally {
      await careless.drop();
    }
  });

  it('a retention that is short for clients’ keys, in one line for all handlers, and not for natural keys', () =>
    boot({ platform, imports: [IdempotencyModule.forRoot({ pool: database.pool })] }, async ({ journal }) => {
      const warned = journal.own('warn').filter((line) => line.includes('24 hours'));
      expect(warned).toHaveLength(1);
      expect(warned[0]).toMatch(/Payments\.shortLived\./);
    }));

  it.each<[string, { role: number; most: number; waits?: true }]>([
    ['the pools of application and module together', { role: 9, most: 10 }],
    ['those and the connection of who waits', { role: 10, most: 11, waits: true }],
  ])('more connections than Postgres grants: %s, with the figures and the remedy, and no more than it grants not', async (_, given) => {
    const { role: limit, most, waits } = given;
    const role = `shop_${randomUUID().replaceAll('-', '')}`;
    await database.pool.query(
      `create role ${role} login connection limit ${limit}; grant select on all tables in schema public to ${role}`,
    );
    const url = Object.assign(new URL(database.url), { username: role }).href;
    const warnings = async (poolSize: number): Promise<string[]> => {
      const pool = new Pool({ connectionString: url, max: 6 });
      const options: IdempotencyModuleOptions = { pool, poolSize, reaper: false, ...(waits && { onDuplicate: 'wait' }) };
      const warned = await boot({ platform, imports: [IdempotencyModule.forRoot(options)] }, async ({ journal }) => journal.own('warn'));
      await pool.end();
      return warned.filter((line) => line.includes('connections'));
    };
    try {
      const [warning, ...others] = await warnings(4);
      expect([warning, others]).toEqual([
        expect.stringMatching(
          new RegExp(`open ${most} connections.*6 of the application's pool, 4 of .*poolSize.* ${limit} is all.*ALTER ROLE`),
        ),
        [],
      ]);
      expect(warning?.includes('others wait for')).toBe(waits ?? false);
      expect(await warnings(3)).toEqual([]);
    } finally {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it('and nothing else', () =>
    boot({ platform, imports: [IdempotencyModule.forRoot({ pool: database.pool })] }, async ({ journal }) => {
      expect(journal.own().filter((line) => !line.includes('24 hours'))).toEqual([]);
    }));
});
