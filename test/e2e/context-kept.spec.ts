import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  Body,
  Controller,
  HttpCode,
  HttpException,
  Inject,
  Injectable,
  Post,
  Req,
  Res,
  UseInterceptors,
  UsePipes,
  applyDecorators,
  createParamDecorator,
  forwardRef,
} from '@nestjs/common';
import type { ExecutionContext, NestInterceptor, OnModuleInit, PipeTransform, Provider } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { CurrentExecution, IdempotencyService, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import type { AsyncLocalStorage } from 'node:async_hooks';
import { Agent } from 'node:http';
import { defer, map, race } from 'rxjs';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { Ledger, bench, newKey } from './support/bench.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Stage } from './support/stage.js';
import { isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();

/** What a process remembers of who has asked; every test begins as a process of its own. */
const SLOT = Symbol.for('nestjs-idempotency-pg.frames.v2');
const asNewProcess = (): boolean => Reflect.deleteProperty(globalThis, SLOT);

/** From Node 24 on a context costs nothing, and there always is one. */
const isCheap = Number(process.versions.node.split('.')[0]) >= 24;

interface Keeping {
  probation: number;
  readonly storage: AsyncLocalStorage<unknown>;
}
const keeping = (): Keeping => Reflect.get(globalThis, SLOT) as Keeping;
const hasContext = (): boolean => keeping().storage.getStore() !== undefined;

/** As many executions as nobody asks in before the context is given up. */
async function pass(app: RunningApp, path: string, times: number): Promise<void> {
  const agent = new Agent({ keepAlive: true });
  for (let sent = 0; sent < times; sent += 50) {
    const answers = await Promise.all(Array.from({ length: 50 }, () => send(`${app.url}${path}`, { agent, body: {} })));
    expect(answers.every(({ status }) => status === 201)).toBe(true);
  }
  agent.destroy();
}

/** The same, and quicker: but for the last one they have passed already. */
async function passTheLast(app: RunningApp, path: string): Promise<void> {
  await send(`${app.url}${path}`, { body: {} });
  keeping().probation = 1;
  await send(`${app.url}${path}`, { body: {} });
}

describe.each(PLATFORMS)('a context on %s', (platform) => {
  const ledger = new Ledger();
  let seen: boolean | undefined;

  beforeEach(() => {
    asNewProcess();
    seen = undefined;
  });

  @Controller()
  class Shop {
    @Idempotent()
    @Post('payments')
    async pay(@Body() body: { fails?: boolean }, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
      await Promise.resolve();
      seen = hasContext();
      const run = ledger.run('payment');
      if (body.fails === true) throw new HttpException({ run }, 503);
      return { run, key: execution.key };
    }

    @Idempotent()
    @Post('steps')
    async inSteps(@CurrentExecution() { step }: IdempotentExecution): Promise<object> {
      await step('one', () => ledger.run('step'));
      return { seen: hasContext() };
    }
  }

  const within = (parts: AppParts, work: (app: RunningApp) => Promise<void>): Promise<void> => shared.within(platform, parts, work);
  const pay = (app: RunningApp, key: string, body: object = {}): Promise<Answer> => send(`${app.url}/payments`, { key, body });

  it('is given up when a thousand executions have passed and nobody has asked', async () => {
    await within({ controllers: [Shop] }, async (app) => {
      await pass(app, '/payments', 950);
      expect(seen).toBe(true);
      const disabled = jest.spyOn(keeping().storage, 'disable');
      await pass(app, '/payments', 100);
      expect(disabled.mock.calls.length > 0).toBe(!isCheap); // until then Node goes on watching promises
      expect(seen).toBe(isCheap);
      const key = newKey();
      const first = await pay(app, key);
      expect(json(first)).toEqual({ run: expect.any(Number), key });
      expect([isReplay(first), seen]).toEqual([false, isCheap]);
      const again = await pay(app, key);
      expect([isReplay(again), again.body]).toEqual([true, first.body]);
    });
  }, 60_000);

  it('is not needed to run a handler once, or to free the key of one that failed', async () => {
    await within({ controllers: [Shop] }, async (app) => {
      await passTheLast(app, '/payments');
      const [key, failing] = [newKey(), newKey()];
      const runs = ledger.runs('payment');
      const answers = await Promise.all(Array.from({ length: 8 }, () => pay(app, key)));
      expect(answers.filter((answer) => answer.status === 201 && !isReplay(answer))).toHaveLength(1);
      expect(ledger.runs('payment')).toBe(runs + 1);
      expect((await pay(app, failing, { fails: true })).status).toBe(503);
      expect((await pay(app, failing, { fails: true })).status).toBe(503);
      expect(ledger.runs('payment')).toBe(runs + 3);
    });
  });

  it('is kept from the first step on', async () => {
    await within({ controllers: [Shop] }, async (app) => {
      await passTheLast(app, '/payments');
      await send(`${app.url}/steps`, { key: newKey() });
      await pay(app, newKey());
      expect(seen).toBe(true);
    });
  });

  interface Asker {
    readonly providers: Provider[];
    readonly service: () => IdempotencyService;
  }

  /** Ways to get at it; it is used when a thousand executions have passed in which nobody has asked. */
  const askers: [how: string, make: () => Asker][] = [
    [
      'by its constructor',
      () => {
        @Injectable()
        class Taker {
          constructor(@Inject(IdempotencyService) service: IdempotencyService) {
            given = service;
          }
        }
        return { providers: [Taker], service: () => given };
      },
    ],
    [
      'as a property',
      () => {
        @Injectable()
        class Taker implements OnModuleInit {
          @Inject(IdempotencyService) readonly service!: IdempotencyService;

          onModuleInit(): void {
            given = this.service;
          }
        }
        return { providers: [Taker], service: () => given };
      },
    ],
    [
      'by a reference that is resolved later',
      () => {
        @Injectable()
        class Taker {
          constructor(@Inject(forwardRef(() => IdempotencyService)) service: IdempotencyService) {
            given = service;
          }
        }
        return { providers: [Taker], service: () => given };
      },
    ],
    [
      'by a factory',
      () => {
        const inject = [{ token: IdempotencyService, optional: true }];
        const useFactory = (service: IdempotencyService): object => ({ service: (given = service) });
        return { providers: [{ provide: 'taker', inject, useFactory }], service: () => given };
      },
    ],
    [
      'by another name',
      () => {
        @Injectable()
        class Taker {
          constructor(@Inject('another name') service: IdempotencyService) {
            given = service;
          }
        }
        return { providers: [{ provide: 'another name', useExisting: IdempotencyService }, Taker], service: () => given };
      },
    ],
    [
      'at any time it likes',
      () => {
        let reference: ModuleRef;
        @Injectable()
        class Taker {
          constructor(@Inject(ModuleRef) found: ModuleRef) {
            reference = found;
          }
        }
        return { providers: [Taker], service: () => reference.get(IdempotencyService, { strict: false }) };
      },
    ],
  ];
  let given: IdempotencyService;

  it.each(askers)('is kept from the start where a provider gets at IdempotencyService %s', async (_how, make) => {
    const { service, providers } = make();
    @Controller()
    class Desk {
      @Idempotent()
      @Post('asked')
      asked(): object {
        return { key: service().current()?.key };
      }
    }
    await within({ controllers: [Shop, Desk], providers }, async (app) => {
      await passTheLast(app, '/payments');
      const key = newKey();
      expect(json(await send(`${app.url}/asked`, { key }))).toEqual({ key });
    });
  });

  it('is refused once to those who ask unforeseen while others are at work without one, and then kept', async () => {
    let service: IdempotencyService;
    const [begun, released] = [barrier(2), barrier(2)];
    let isFirst = true;
    @Controller()
    class Desk {
      @Idempotent()
      @Post('unforeseen')
      async unforeseen(): Promise<object> {
        if (isFirst) await begun.arrive().then(() => released.arrive());
        return { key: service.current()?.key ?? null };
      }
    }
    await within({ controllers: [Shop, Desk] }, async (app) => {
      service = app.app.get(IdempotencyService);
      await passTheLast(app, '/payments');
      const key = newKey();
      const asked = send(`${app.url}/unforeseen`, { key });
      await begun.arrive();
      const found = isCheap ? undefined : 'Inject IdempotencyService where it is used';
      const refusal = (): unknown => {
        try {
          return service.current();
        } catch (error) {
          return (error as Error).message;
        }
      };
      if (found === undefined) expect(refusal()).toBeUndefined();
      else expect(refusal()).toContain(found);
      await released.arrive();
      expect((await asked).status).toBe(isCheap ? 201 : 500);
      isFirst = false;
      expect(json(await send(`${app.url}/unforeseen`, { key }))).toEqual({ key });
      expect(service.current()).toBeUndefined(); // nobody is at work without one any more, so this is certain
    });
  });

  it.each(['with a context', 'without one'])(
    'is that of a handler %s until its end, though somebody else has answered by then',
    async (how) => {
      const stage = new Stage();
      let service: IdempotencyService;
      let told: unknown;
      const impatient: NestInterceptor = {
        intercept: (_context, next) => race(next.handle(), defer(() => stage.reached('handler')).pipe(map(() => ({ late: true })))),
      };
      @Controller()
      class Desk {
        @Idempotent()
        @Post('late')
        @UseInterceptors(impatient)
        async late(): Promise<void> {
          await stage.stopAt('handler');
          try {
            told = service.current()?.key;
          } catch (error) {
            told = (error as Error).message;
          }
          stage.open('told');
        }
      }
      await within({ controllers: [Shop, Desk] }, async (app) => {
        service = app.app.get(IdempotencyService);
        if (how === 'without one') await passTheLast(app, '/payments');
        const key = newKey();
        expect(json(await send(`${app.url}/late`, { key }))).toEqual({ late: true });
        stage.open('handler');
        await stage.stopAt('told');
        if (isCheap || how === 'with a context') expect(told).toBe(key);
        else expect(told).toContain('Inject IdempotencyService where it is used');
      });
    },
  );

  it('is kept where a handler may write its answer itself, since only that tells its answers from others’', async () => {
    @Controller()
    class Writer {
      @Idempotent()
      @Post('written')
      async written(@Res({ passthrough: true }) response: PlatformResponse): Promise<object> {
        response.header('x-own', 'yes');
        await Promise.resolve();
        return { seen: hasContext() };
      }
    }
    await within({ controllers: [Shop, Writer] }, async (app) => {
      await passTheLast(app, '/payments');
      expect(json(await send(`${app.url}/written`, { key: newKey() }))).toEqual({ seen: true });
    });
  });
});

describe.each(PLATFORMS)('a handler on %s', (platform) => {
  beforeEach(() => void asNewProcess());

  /** As decorators do that know what their method takes. */
  const passingOnTheBodyAlone: MethodDecorator = (_target, _key, descriptor: PropertyDescriptor) => {
    const original = descriptor.value as (this: unknown, body: unknown) => unknown;
    const inFront = function (this: unknown, body: unknown): unknown {
      return original.call(this, body);
    };
    for (const key of Reflect.getMetadataKeys(original) as unknown[]) {
      Reflect.defineMetadata(key, Reflect.getMetadata(key, original), inFront);
    }
    descriptor.value = inFront;
  };

  const Sender = createParamDecorator((_data: undefined, context: ExecutionContext) =>
    String(context.switchToHttp().getRequest<{ headers: Record<string, unknown> }>().headers['x-sender']),
  );

  it('is followed though another decorator’s function stands in front of it and drops what it does not know', async () => {
    const ledger = new Ledger();
    @Controller()
    class Shop {
      @Post('payments')
      @HttpCode(201)
      @passingOnTheBodyAlone
      @Idempotent()
      async pay(@Body() _body: unknown): Promise<object> {
        await Promise.resolve();
        return { run: ledger.run('payment') };
      }

      @Idempotent()
      @Post('others')
      other(): object {
        return {};
      }
    }
    await shared.within(platform, { controllers: [Shop] }, async (app) => {
      await passTheLast(app, '/others');
      const key = newKey();
      const first = await send(`${app.url}/payments`, { key, body: {} });
      const second = await send(`${app.url}/payments`, { key, body: {} });
      expect([json(first), json(second), isReplay(second)]).toEqual([{ run: 1 }, { run: 1 }, true]);
    });
  });

  it('is called with its own arguments and no more, and pipes see no others', async () => {
    const piped: unknown[] = [];
    const watching: PipeTransform = {
      transform(value: unknown) {
        piped.push(value);
        return value;
      },
    };
    const calls: unknown[][] = [];
    @Controller()
    class Shop {
      @Idempotent()
      @Post('none')
      none(...all: unknown[]): object {
        calls.push(all);
        return {};
      }

      @Idempotent()
      @Post('defaults')
      @UsePipes(watching)
      defaults(@Body() body: unknown, @Sender() sender: string, limit = 10): object {
        calls.push([body, sender, limit, arguments.length]);
        return {};
      }

      @Idempotent()
      @Post('request')
      request(@Body() body: unknown, @Req() { method }: { method: string }): object {
        calls.push([body, method, arguments.length]);
        return {};
      }
    }
    await shared.within(platform, { controllers: [Shop], configure: (app) => void app.useGlobalPipes(watching) }, async (app) => {
      for (const path of ['none', 'defaults', 'request']) {
        for (const key of [newKey(), undefined]) {
          const sent = { body: { path }, headers: { 'x-sender': 'me' }, ...(key === undefined ? {} : { key }) };
          expect((await send(`${app.url}/${path}`, sent)).status).toBe(201);
        }
      }
      const [none, defaults, request] = [[], [{ path: 'defaults' }, 'me', 10, 2], [{ path: 'request' }, 'POST', 2]];
      expect(calls).toEqual([none, none, defaults, defaults, request, request]);
      expect(piped.every((value) => value === 'me' || Object.keys(value as object).join() === 'path')).toBe(true);
      calls.length = 0;
      app.app.get(Shop).none('called', 'by', 'hand');
      app.app.get(Shop).none('once');
      app.app.get(Shop).defaults({}, 'you', 20);
      expect(calls).toEqual([['called', 'by', 'hand'], ['once'], [{}, 'you', 20, 3]]);
    });
  });

  it('is followed in every class that inherits it, with parameters of its own in each', async () => {
    const ledger = new Ledger();
    const withSender = applyDecorators(Post('pay'), HttpCode(201));
    class Base {
      @Idempotent()
      @withSender
      async pay(@Body() body: { what: string }, @CurrentExecution() { key }: IdempotentExecution): Promise<object> {
        await Promise.resolve();
        return { run: ledger.run(body.what), key };
      }
    }
    @Controller('one')
    class One extends Base {}
    @Controller('two')
    @Idempotent({ required: true })
    class Two extends Base {}
    @Controller('three')
    class Three extends Base {
      @Idempotent()
      @withSender
      override async pay(@Body() body: { what: string }, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
        return { ...(await super.pay(body, execution)), overridden: true };
      }
    }
    await shared.within(platform, { controllers: [One, Two, Three] }, async (app) => {
      for (const path of ['one', 'two', 'three']) {
        const sent = { key: newKey(), body: { what: path } };
        const first = await send(`${app.url}/${path}/pay`, sent);
        expect(json(first)).toMatchObject({ run: expect.any(Number), key: sent.key });
        expect(isReplay(await send(`${app.url}/${path}/pay`, sent))).toBe(true);
        expect(ledger.runs(path)).toBe(1);
      }
    });
  });
});
