/** The kit's verdict on handlers that are idempotent, and on those that only look so. */
import { AssertionError } from 'node:assert';
import { describe, expect, it } from '@jest/globals';
import { Body, Controller, Headers, HttpCode, Param, Post, Module } from '@nestjs/common';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { CurrentExecution, IdempotencyModule, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { expectIdempotent } from '../../lib/testing/index.js';
import type { ExpectIdempotentOptions, IdempotentRequest } from '../../lib/testing/index.js';
import { PLATFORMS } from '../support/app.js';
import type { Platform, RunningApp } from '../support/app.js';
import { bench } from './support/bench.js';
import { books, write } from './support/desk.js';

const shared = bench();
const ours = books(shared);

/** Another system, with idempotency keys of its own. */
class Provider {
  readonly charged = new Map<string, number>();
  calls = 0;

  charge(key: string): { readonly charge: number } {
    this.calls += 1;
    const number = this.charged.get(key) ?? this.calls;
    this.charged.set(key, number);
    return { charge: number };
  }
}

const provider = new Provider();
let flips = 0;

@Controller()
class Shop {
  @Idempotent({ atomic: true })
  @Post('atomic')
  async atomic(@CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    await write(manager, 'atomic', 'a line');
    await write(manager, 'atomic, second row', 'a line');
    return { paid: (flips += 1) };
  }

  @Idempotent({ atomic: true })
  @Post('atomic-with-step')
  async atomicWithStep(@CurrentExecution() { manager, step }: IdempotentExecution): Promise<object> {
    await write(manager, 'with step', 'a line');
    const { charge } = await step('charge', ({ key }) => provider.charge(key));
    await write(manager, 'with step, after it', 'a line');
    return { charge };
  }

  @Idempotent({ lockTtl: '5s' })
  @Post('phases')
  async phases(@CurrentExecution() { step, transaction }: IdempotentExecution): Promise<object> {
    await transaction('book', (manager) => write(manager, 'phase', 'a line'));
    const { charge } = await step('charge', ({ key }) => provider.charge(key));
    return { charge };
  }

  @Idempotent()
  @Post('own-transaction')
  async ownTransaction(): Promise<object> {
    await ours.dataSource().transaction(async (manager) => {
      await write(manager, 'own', 'a line');
      await write(manager, 'own, second row', 'a line');
    });
    return { done: true };
  }

  @Idempotent()
  @Post('forgetful-step')
  async forgetfulStep(@CurrentExecution() { step }: IdempotentExecution): Promise<object> {
    return step('charge', () => provider.charge(`another key each time ${Math.random()}`));
  }

  @Idempotent({ onLostExecution: 'reject' })
  @Post('looked-into')
  async lookedInto(): Promise<object> {
    await write(ours.dataSource().manager, 'looked into', 'a line');
    return {};
  }

  @Idempotent({ onDuplicate: 'wait', atomic: true })
  @Post('waits')
  async waits(@CurrentExecution() { client }: IdempotentExecution): Promise<object> {
    await client.query('insert into books (title, line) values ($1, $2)', ['waits', 'a line']);
    return { waits: (flips += 1) };
  }

  @Idempotent({ keyFrom: { param: 'id' }, atomic: true })
  @Post('orders/:id/commit')
  async commit(@Param('id') id: string, @CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    await write(manager, 'commit', 'a line');
    return { id };
  }

  @Idempotent({ atomic: true, storeIf: 'all' })
  @HttpCode(402)
  @Post('declined')
  declined(): object {
    return { declined: (flips += 1) };
  }

  @Idempotent({ atomic: true, fingerprint: ({ body }) => (body as { amount: number }).amount })
  @Post('amounts')
  async amounts(@Body() { amount }: { amount: number }, @CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    await write(manager, 'amounts', 'a line');
    return { amount };
  }

  @Post('unprotected')
  unprotected(@Headers('idempotency-key') key: string): object {
    return { key };
  }

  @Idempotent()
  @Post('nothing-kept')
  nothingKept(): never {
    throw new Error('always');
  }
}

const titled =
  (...titles: string[]) =>
  async (): Promise<Record<string, number>> =>
    Object.fromEntries(await Promise.all(titles.map(async (title) => [title, (await ours.read(title)).length] as const)));

async function failureOf(
  app: INestApplication,
  request: IdempotentRequest | (() => IdempotentRequest),
  options: ExpectIdempotentOptions,
): Promise<AssertionError> {
  const failure = await expectIdempotent(app, request, options).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(failure instanceof AssertionError)) throw new Error(`No AssertionError, but ${String(failure)}`);
  return failure;
}

describe.each(PLATFORMS)('expectIdempotent on %s', (platform: Platform) => {
  const started = new Map<string, Promise<RunningApp>>();
  const app = async (): Promise<INestApplication> => {
    const running =
      started.get(platform) ?? shared.start(platform, { controllers: [Shop], options: { dataSource: ours.dataSource(), pool: undefined } });
    started.set(platform, running);
    return (await running).app;
  };

  it('finds nothing wrong with an atomic handler', async () => {
    await expectIdempotent(
      await app(),
      { method: 'POST', url: '/atomic', body: { amount: 1 } },
      { effects: titled('atomic', 'atomic, second row') },
    );
  });

  it('finds nothing wrong with an atomic handler that calls another system as a step', async () => {
    const effects = async () => ({ ...(await titled('with step', 'with step, after it')()), charges: provider.charged.size });
    await expectIdempotent(await app(), { url: '/atomic-with-step', body: {} }, { effects });
  });

  it('finds nothing wrong with a plain handler whose every effect is a step or a phase', async () => {
    const effects = async () => ({ ...(await titled('phase')()), charges: provider.charged.size });
    await expectIdempotent(
      await app(),
      { url: '/phases', body: '["a text"]', headers: { 'Content-Type': 'application/json' } },
      { effects },
    );
  });

  it('waits for an answer where the route does', async () => {
    await expectIdempotent(await app(), { url: '/waits', body: {} }, { effects: titled('waits') });
  });

  it('takes a function for keys that are part of the request', async () => {
    let order = 0;
    const next = (): IdempotentRequest => ({ url: `/orders/${platform}-${(order += 1)}/commit`, body: {} });
    await expectIdempotent(await app(), next, { effects: titled('commit') });
  });

  it('lets a lost execution be refused where the route says so', async () => {
    await expectIdempotent(await app(), { url: '/looked-into', body: {} }, { effects: titled('looked into') });
  });

  it('takes a key that is given for the first request', async () => {
    const headers = { 'IDEMPOTENCY-KEY': `given on ${platform}` };
    await expectIdempotent(await app(), { url: '/atomic', headers, body: {} }, { effects: titled('atomic'), crashes: false });
    const again = await failureOf(await app(), { url: '/atomic', headers, body: {} }, { effects: titled('atomic') });
    expect(again.message).toContain('Its key has been used before');
  });

  it('counts what a key adds as it is told to', async () => {
    const effects = async (): Promise<number> => (await ours.read('atomic')).length * 2;
    await expectIdempotent(await app(), { url: '/atomic', body: {} }, { effects, perKey: 2, crashes: false });
    await expectIdempotent(await app(), { url: '/declined', body: {} }, { effects, perKey: 0 });
  });

  it('takes another body where its own would count as the same', async () => {
    const request = { url: '/amounts', body: { amount: 1 } };
    const { message } = await failureOf(await app(), request, { effects: titled('amounts') });
    expect(message).toMatch(/sent with its key and another body\.\nExpected: status 422\.\nGot: 201 .*\nGive otherBody/);
    await expectIdempotent(await app(), request, { effects: titled('amounts'), otherBody: { amount: 2 }, crashes: false });
    await expectIdempotent(await app(), request, { effects: titled('amounts'), otherBody: false, crashes: false });
  });

  it('finds the crash after which rows of a plain handler are written twice', async () => {
    const { message } = await failureOf(await app(), { url: '/own-transaction', body: {} }, { effects: titled('own', 'own, second row') });
    expect(message).toMatch(
      /crashed before the answer is recorded\.\nExpected: own to grow by 1\.\nGot: 2\.\nMake the effect part of what is recorded/,
    );
  });

  it('finds the crash after which another system is called under another key', async () => {
    const effects = (): number => provider.charged.size;
    const { message } = await failureOf(await app(), { url: '/forgetful-step', body: {} }, { effects });
    expect(message).toMatch(/crashed before the result of step "charge" is recorded\.\nExpected: effects to grow by 1\.\nGot: 2/);
  });

  it('tells what to do about a handler that is not protected, effects that count nothing, and an answer that is not kept', async () => {
    const effects = (): number => 0;
    const unprotected = await failureOf(await app(), { url: '/unprotected', body: {} }, { effects });
    expect(unprotected.message).toContain('sent once.\nExpected: the request to claim a key');
    expect(unprotected.message).toContain('Put @Idempotent() on the handler');
    const uncounted = await failureOf(await app(), { url: '/atomic', body: {} }, { effects });
    expect(uncounted.message).toMatch(/Expected: effects to grow by 1\.\nGot: 0\.\nSee to it that effects\(\) counts/);
    const failing = await failureOf(await app(), { url: '/nothing-kept', body: {} }, { effects, perKey: 0 });
    expect(failing.message).toMatch(
      /sent again with its key\.\nExpected: the first answer once more.*\nGot: 500.*\nThe first answer was 500/,
    );
  });

  it('leaves the application as it was', async () => {
    const {
      app: nest,
      url,
      post,
    } = await shared.start(platform, { controllers: [Shop], options: { dataSource: ours.dataSource(), pool: undefined } });
    const server = nest.getHttpServer() as object;
    const names = Object.getOwnPropertyNames(server);
    await expectIdempotent(nest, { url: '/atomic', body: {} }, { effects: titled('atomic') });
    expect(Object.getOwnPropertyNames(server)).toEqual(names);
    expect((await post('/atomic', { key: 'after it', body: {} })).status).toBe(201);
    expect(url).toMatch(/^http/);
  });

  it('refuses to work on one application twice at the same time', async () => {
    const request = { url: '/atomic', body: {} };
    const both = [1, 2].map(async () => expectIdempotent(await app(), request, { effects: titled('atomic'), crashes: false }));
    const ends = await Promise.allSettled(both);
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(ends.find((end) => end.status === 'rejected')).toMatchObject({
      reason: { message: expect.stringContaining('Await one before the next') },
    });
  });

  it('needs no application that listens', async () => {
    @Module({ controllers: [Shop], imports: [IdempotencyModule.forRoot({ dataSource: ours.dataSource(), reaper: false })] })
    class AppModule {}
    const nest =
      platform === 'express'
        ? await NestFactory.create(AppModule, { logger: false })
        : await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(), { logger: false });
    try {
      await expectIdempotent(nest, { url: '/atomic', body: {} }, { effects: titled('atomic') });
      expect((nest.getHttpServer() as { listening: boolean }).listening).toBe(false);
    } finally {
      await nest.close();
    }
  });
});
