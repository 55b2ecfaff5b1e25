/** An application under test without Postgres: what it does all the same, what it refuses, and whose time it goes by. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it, jest } from '@jest/globals';
import { Controller, Injectable, Module, Post } from '@nestjs/common';
import type { DynamicModule, INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { CurrentExecution, IdempotencyEvents, IdempotencyService, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { expectIdempotent, IdempotencyTestingModule, InMemoryIdempotencyStore, ManualClock } from '../../lib/testing/index.js';
import { PLATFORMS } from '../support/app.js';
import type { Platform } from '../support/app.js';
import { Stage } from './support/stage.js';

const HOUR = 3_600_000;

jest.setTimeout(30_000); // one test starts a process of its own

@Injectable()
class Mailbox {
  readonly sent = new Set<string>();
  runs = 0;
}

const stage = new Stage();

@Controller()
class Mails {
  constructor(private readonly mailbox: Mailbox) {}

  @Idempotent({ ttl: '24h' })
  @Post('mails')
  async send(@CurrentExecution() { step }: IdempotentExecution): Promise<object> {
    this.mailbox.runs += 1;
    const id = await step('send', ({ key }) => {
      this.mailbox.sent.add(key);
      return this.mailbox.sent.size;
    });
    return { id, run: this.mailbox.runs };
  }

  @Idempotent()
  @Post('slow')
  async slow(@CurrentExecution() { key = '' }: IdempotentExecution): Promise<object> {
    this.mailbox.runs += 1;
    await stage.stopAt(key);
    return { run: this.mailbox.runs };
  }

  @Idempotent()
  @Post('phase')
  phase(@CurrentExecution() { transaction }: IdempotentExecution): Promise<unknown> {
    return transaction('book', () => undefined);
  }
}

@Controller()
class Atomic {
  @Idempotent({ atomic: true })
  @Post('atomic')
  pay(): object {
    return {};
  }
}

async function create(platform: Platform, records: DynamicModule, controllers: Type[] = [Mails]): Promise<INestApplication> {
  @Module({ imports: [records], controllers, providers: [Mailbox] })
  class AppModule {}
  return platform === 'express'
    ? NestFactory.create(AppModule, { logger: false, abortOnError: false })
    : NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter({ forceCloseConnections: true }), {
        logger: false,
        abortOnError: false,
      });
}

async function listening(app: INestApplication): Promise<(path: string, key: string) => Promise<Response>> {
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as { port: number };
  return (path, key) => fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', headers: { 'idempotency-key': key } });
}

describe.each(PLATFORMS)('IdempotencyTestingModule on %s', (platform) => {
  it('keeps and replays answers without a database, and tells events', async () => {
    const app = await create(platform, IdempotencyTestingModule.forRoot());
    const post = await listening(app);
    const types: string[] = [];
    app.get(IdempotencyEvents).events$.subscribe(({ type }) => types.push(type));
    const [first, again] = [await post('/mails', 'a'), await post('/mails', 'a')];
    expect(await again.text()).toBe(await first.text());
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(types).toEqual(['claimed', 'completed', 'replayed']);
    expect(await app.get(IdempotencyService).find({ scope: '', key: 'a' })).toMatchObject({ state: 'completed', steps: ['send'] });
    await app.close();
  });

  it('goes by the clock of the test: answers expire, and leases end', async () => {
    const clock = new ManualClock();
    const app = await create(platform, IdempotencyTestingModule.forRoot({ clock, lockTtl: '60s', reaper: false }));
    const post = await listening(app);
    const runOf = async (answer: Response): Promise<unknown> => ((await answer.json()) as { run: number }).run;
    expect(await runOf(await post('/mails', 'a'))).toBe(1);
    await clock.advance(24 * HOUR - 1);
    expect(await runOf(await post('/mails', 'a'))).toBe(1);
    await clock.advance(1);
    expect(await runOf(await post('/mails', 'a'))).toBe(2);

    const slow = post('/slow', `slow on ${platform}`);
    await stage.reached(`slow on ${platform}`);
    await clock.advance(10 * 60_000); // renewed all the while
    expect((await post('/slow', `slow on ${platform}`)).status).toBe(409);
    stage.open(`slow on ${platform}`);
    expect(await runOf(await slow)).toBe(3);
    await app.close();
  });

  it('gives every application a store of its own', async () => {
    const records = IdempotencyTestingModule.forRoot();
    for (const expected of [1, 1]) {
      const app = await create(platform, records);
      const post = await listening(app);
      expect(await (await post('/mails', 'a')).json()).toEqual({ id: expected, run: 1 });
      await app.close();
    }
  });

  it('takes options from a factory as well', async () => {
    const clock = new ManualClock();
    const app = await create(platform, IdempotencyTestingModule.forRootAsync({ clock, useFactory: () => ({ header: 'X-Key' }) }));
    const post = await listening(app);
    expect((await post('/mails', 'ignored')).headers.get('idempotent-replayed')).toBeNull();
    await app.close();
  });

  it('refuses atomic handlers when the application starts, and phases when they are asked for', async () => {
    await expect(create(platform, IdempotencyTestingModule.forRoot(), [Atomic])).rejects.toMatchObject({
      faults: [{ option: 'atomic', where: 'Atomic.pay', remedy: expect.stringContaining('on a Postgres') }],
    });
    const app = await create(platform, IdempotencyTestingModule.forRoot());
    const post = await listening(app);
    expect(await (await post('/phase', 'a')).json()).toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_MISUSED' });
    await app.close();
  });

  it('can be asked what expectIdempotent asks', async () => {
    const app = await create(platform, IdempotencyTestingModule.forRoot({ clock: new ManualClock() }));
    await expectIdempotent(app, { url: '/mails' }, { effects: () => app.get(Mailbox).sent.size });
    await expect(expectIdempotent(app, { url: '/mails' }, { effects: () => app.get(Mailbox).runs })).rejects.toThrow(
      /crashed before the result of step "send" is recorded\.\nExpected: effects to grow by 1\.\nGot: 2/,
    );
    await app.close();
  });
});

describe('IdempotencyTestingModule.replaceIn', () => {
  it('overrides what a testing builder would make, on the clock that it is given', () => {
    const clock = new ManualClock();
    const made: object[] = [];
    const builder = {
      overrideProvider: () => ({ useFactory: ({ factory }: { factory: () => object }) => (made.push(factory(), factory()), builder) }),
    };
    expect(IdempotencyTestingModule.replaceIn(builder, { clock })).toBe(builder);
    expect(made).toEqual([
      { clock, store: expect.any(InMemoryIdempotencyStore) },
      { clock, store: expect.any(InMemoryIdempotencyStore) },
    ]);
  });
});

describe('the kit', () => {
  it('needs no jest: it runs under node:test', async () => {
    const register = new URL('../support/swc-register.mjs', import.meta.url).href;
    const { NODE_OPTIONS: _, ...env } = process.env;
    const args = ['--import', register, '--test-reporter=tap', 'test/support/apps/kit-by-node-test.ts'];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env });
    expect(stdout).toMatch(/^# pass \d\d/m);
    expect(stdout).toMatch(/^# fail 0$/m);
  });
});
