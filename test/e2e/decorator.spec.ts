import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  All,
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Inject,
  Injectable,
  Patch,
  Post,
  Put,
  Req,
  Scope,
  SetMetadata,
  UseInterceptors,
} from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Observable } from 'rxjs';
import { setTimeout as pause } from 'node:timers/promises';
import { CurrentExecution, IdempotencyService, Idempotent, SkipIdempotency } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { as, believingGuard } from './support/callers.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;
const once = (what: string): { run: number } => ({ run: ledger.run(what) });

abstract class Crud {
  protected abstract readonly thing: string;

  @Get()
  read(): object {
    return once(`${this.thing} get`);
  }

  @Post()
  create(): object {
    return once(`${this.thing} post`);
  }

  @Put()
  replace(): object {
    return once(`${this.thing} put`);
  }

  @Patch()
  change(): object {
    return once(`${this.thing} patch`);
  }

  @Delete()
  remove(): object {
    return once(`${this.thing} delete`);
  }
}

@Controller('books')
@Idempotent({ required: true })
class Books extends Crud {
  protected readonly thing = 'book';

  @All('all')
  all(): object {
    return once('book all');
  }

  @Post('optional')
  @Idempotent({ required: false })
  optional(): object {
    return once('book optional');
  }

  @Post('skipped')
  @SkipIdempotency()
  skipped(): object {
    return once('book skipped');
  }

  @Post('merged')
  @Idempotent({ keyFormat: /^m-/ })
  merged(): object {
    return once('book merged');
  }

  @Delete()
  override remove(): object {
    return once('book own delete');
  }
}

/** The other heir of the same base, which nobody has decorated. */
@Controller('films')
class Films extends Crud {
  protected readonly thing = 'film';
}

@Controller('songs')
@Idempotent({ keyFormat: 'uuid' })
class Songs extends Crud {
  protected readonly thing = 'song';
}

/** As logging and caching decorators do it: a new function with the metadata of the old one. */
function Wrapped(log: string[]): MethodDecorator {
  return (_target, name, descriptor: PropertyDescriptor) => {
    const original = descriptor.value as (...args: unknown[]) => unknown;
    const wrapper = function (this: unknown, ...args: unknown[]): unknown {
      log.push(String(name));
      return original.apply(this, args);
    };
    for (const key of Reflect.getMetadataKeys(original) as unknown[])
      Reflect.defineMetadata(key, Reflect.getMetadata(key, original), wrapper);
    descriptor.value = wrapper;
  };
}

/** As documentation decorators do it: reads what is there when it is applied. */
function Reading(seen: unknown[]): MethodDecorator {
  return (target, name, descriptor: PropertyDescriptor) => {
    const method = descriptor.value as { name: string; length: number };
    seen.push({
      name: method.name,
      length: method.length,
      tag: Reflect.getMetadata('tag', method) as unknown,
      types: (Reflect.getMetadata('design:paramtypes', target, name) as { name: string }[] | undefined)?.map((type) => type.name),
    });
  };
}

const wrappedAbove: string[] = [];
const wrappedBelow: string[] = [];
const seenAbove: unknown[] = [];
const Tag = (tag: string): MethodDecorator => SetMetadata('tag', tag);

@Injectable()
class Till {
  readonly name = 'till';
}

@Controller()
class Decorated {
  private readonly ownName = 'decorated';
  constructor(
    @Inject(Till) private readonly till: Till,
    @Inject(Reflector) private readonly reflector: Reflector,
  ) {}

  @Wrapped(wrappedAbove)
  @Reading(seenAbove)
  @Post('company')
  @HttpCode(202)
  @Idempotent()
  @Wrapped(wrappedBelow)
  @Tag('below')
  company(@Body() body: { amount: number }, @Req() _request: object): object {
    return { ...once('company'), amount: body.amount, own: this.ownName, till: this.till.name };
  }

  @Idempotent()
  @Post('above')
  @Tag('shown')
  above(): object {
    return { ...once('above'), tag: this.reflector.get<string>('tag', Decorated.prototype.above) };
  }

  @Idempotent({ required: true })
  @Idempotent({ keyFormat: 'uuid' })
  @Post('twice')
  twice(): object {
    return once('twice');
  }

  async call(): Promise<object> {
    return Promise.resolve(this.above());
  }
}

@Controller({ path: 'scoped', scope: Scope.REQUEST })
class Scoped {
  private readonly id = ledger.run('scoped instance');
  constructor(@Inject('REQUEST') private readonly request: { headers: Record<string, string> }) {}

  @Post()
  @Idempotent()
  create(): object {
    return { ...once('scoped'), id: this.id, from: this.request.headers['x-from'] };
  }
}

class TagReader implements NestInterceptor {
  readonly tags: unknown[] = [];
  constructor(private readonly reflector: Reflector) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    this.tags.push(this.reflector.get('tag', context.getHandler()));
    return next.handle();
  }
}

/** Something between the module's interceptor and the handler: the execution must be found through it. */
class Between implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

@Injectable()
class Deep {
  constructor(@Inject(IdempotencyService) private readonly idempotency: IdempotencyService) {}

  async look(): Promise<IdempotentExecution | undefined> {
    await pause(1);
    await new Promise((resolve) => setImmediate(resolve));
    return Promise.resolve().then(() => this.idempotency.current());
  }
}

let gate = barrier(1);
let opened: Promise<void> = Promise.resolve();

@Controller()
class Executions {
  constructor(@Inject(Deep) private readonly deep: Deep) {}

  @Post('execution')
  @Idempotent({ storeIf: (status) => status < 400 })
  @UseInterceptors(Between)
  async execution(@CurrentExecution() execution: IdempotentExecution): Promise<object> {
    const current = await this.deep.look();
    return {
      same: current === execution,
      key: execution.key,
      scope: execution.scope,
      attempt: execution.attempt,
      aborted: execution.signal.aborted,
      ...this.keys(execution),
    };
  }

  @Post('unkeyed')
  @Idempotent()
  async unkeyed(@CurrentExecution() execution: IdempotentExecution): Promise<object> {
    return { same: (await this.deep.look()) === execution, hasKey: execution.key !== undefined, ...this.keys(execution) };
  }

  @Post('plain')
  async plain(): Promise<object> {
    return { current: (await this.deep.look()) === undefined };
  }

  @Post('lost')
  @Idempotent()
  lost(@CurrentExecution() execution: IdempotentExecution): object {
    return { attempt: execution.attempt, ...this.keys(execution) };
  }

  @Post('undecorated')
  undecorated(@CurrentExecution() _execution: IdempotentExecution): void {
    ledger.run('undecorated');
  }

  @Post('slow')
  @Idempotent()
  async slow(): Promise<object> {
    const answer = once('slow');
    await gate.arrive();
    await opened;
    return answer;
  }

  private keys(execution: IdempotentExecution): object {
    return { charge: execution.keyFor('charge'), chargeAgain: execution.keyFor('charge'), mail: execution.keyFor('mail') };
  }
}

describe.each(PLATFORMS)('@Idempotent() on %s', (platform) => {
  let app: RunningApp;
  let tags: TagReader;
  beforeAll(async () => {
    tags = new TagReader(new Reflector());
    app = await shared.start(platform, {
      controllers: [Books, Films, Songs, Decorated, Scoped, Executions],
      providers: [Till, Deep],
      configure(nest) {
        nest.useGlobalGuards(believingGuard);
        nest.useGlobalInterceptors(tags);
      },
    });
  });
  const ask = (path: string, sent?: Sent): Promise<Answer> => send(`${app.url}${path}`, sent);
  const isProtected = async (path: string, method: string, key = newKey()): Promise<boolean> => {
    const [first, second] = [await ask(path, { method, key }), await ask(path, { method, key })];
    expect([first.status < 300, second.status < 300]).toEqual([true, true]);
    expect(runOf(second) === runOf(first)).toBe(isReplay(second));
    return isReplay(second);
  };

  describe('on a class', () => {
    it.each(['POST', 'PUT', 'PATCH', 'DELETE'])('covers its own and inherited %s handlers', async (method) => {
      expect([await isProtected('/books', method), await isProtected('/songs', method)]).toEqual([true, true]);
      expect(codeOf(await ask('/books', { method }))).toBe('IDEMPOTENCY_KEY_REQUIRED');
    });

    it('covers @All for those methods only', async () => {
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) expect(await isProtected('/books/all', method)).toBe(true);
      for (const method of ['GET', 'OPTIONS']) expect(await isProtected('/books/all', method)).toBe(false);
      expect((await ask('/books/all', { method: 'GET' })).status).toBe(200);
    });

    it('leaves GET alone', async () => {
      expect(await isProtected('/books', 'GET')).toBe(false);
      expect((await ask('/books', { method: 'GET' })).status).toBe(200);
    });

    it('leaves the base class and its other heirs alone, and keeps their options apart', async () => {
      expect(await isProtected('/films', 'POST')).toBe(false);
      expect(codeOf(await ask('/songs', { key: 'no-uuid' }))).toBe('IDEMPOTENCY_KEY_INVALID');
      expect((await ask('/books', { key: newKey().slice(1) })).status).toBe(201);
      expect((await ask('/songs')).status).toBe(201);
    });

    it('gives way to a handler’s options, one by one', async () => {
      expect((await ask('/books/optional')).status).toBe(201);
      expect(await isProtected('/books/optional', 'POST')).toBe(true);
      expect(codeOf(await ask('/books/merged'))).toBe('IDEMPOTENCY_KEY_REQUIRED');
      expect(codeOf(await ask('/books/merged', { key: newKey() }))).toBe('IDEMPOTENCY_KEY_INVALID');
      expect(await isProtected('/books/merged', 'POST', `m-${newKey()}`)).toBe(true);
    });

    it('is undone by @SkipIdempotency() for one handler', async () => {
      expect(await isProtected('/books/skipped', 'POST')).toBe(false);
      expect((await ask('/books/skipped')).status).toBe(201);
    });
  });

  describe('on a method', () => {
    it('leaves its name, length, parameter types and metadata as they are', () => {
      expect(seenAbove).toEqual([{ name: expect.any(String), length: expect.any(Number), tag: 'below', types: ['Object', 'Object'] }]);
      expect([Decorated.prototype.above.name, Decorated.prototype.above.length]).toEqual(['above', 0]);
      expect([Books.prototype.create.name, Films.prototype.create.name]).toEqual(['create', 'create']);
      expect(Reflect.getMetadata('path', Decorated.prototype.above)).toBe('above');
    });

    it('stands in any company: above and below decorators that wrap, that read and that set', async () => {
      const sent = { key: newKey(), body: { amount: 3 } };
      const calls = (): number[] => [wrappedAbove.length, wrappedBelow.length];
      const before = calls();
      const [first, second] = [await ask('/company', sent), await ask('/company', sent)];
      expect([first.status, second.status, isReplay(second)]).toEqual([202, 202, true]);
      expect(json(first)).toMatchObject({ amount: 3, own: 'decorated', till: 'till' });
      expect(calls()).toEqual(before.map((count) => count + 1));
      expect(tags.tags.at(-1)).toBe('below'); // for the run; the replay does not come that far
    });

    it('is found above the route’s own decorator, too, and metadata set below it can be read', async () => {
      expect(await isProtected('/above', 'POST')).toBe(true);
      expect(json(await ask('/above', { key: newKey() }))).toMatchObject({ tag: 'shown' });
    });

    it('written twice is one with both options', async () => {
      expect(codeOf(await ask('/twice'))).toBe('IDEMPOTENCY_KEY_REQUIRED');
      expect(codeOf(await ask('/twice', { key: 'x' }))).toBe('IDEMPOTENCY_KEY_INVALID');
      expect(await isProtected('/twice', 'POST')).toBe(true);
    });

    it('is the method itself for whoever calls it without a request', async () => {
      const before = ledger.runs('above');
      await app.app.get(Decorated).call();
      app.app.get(Decorated).above();
      expect(ledger.runs('above')).toBe(before + 2);
    });

    it('works in a request-scoped controller', async () => {
      const key = newKey();
      const [first, second] = [
        await ask('/scoped', { key, headers: { 'x-from': 'a' } }),
        await ask('/scoped', { key, headers: { 'x-from': 'b' } }),
      ];
      expect(json(first)).toMatchObject({ from: 'a', id: expect.any(Number) });
      expect([isReplay(second), second.text]).toEqual([true, first.text]);
    });
  });

  describe('and the current execution', () => {
    it('is the same by parameter and deep below, and tells key, scope and attempt', async () => {
      const key = newKey();
      expect(json(await ask('/execution', { key, headers: as({ id: 7 }) }))).toMatchObject({
        same: true,
        key,
        scope: 'id=7',
        attempt: 1,
        aborted: false,
      });
    });

    it('is there without a key, too, and nowhere outside', async () => {
      expect(json(await ask('/unkeyed'))).toMatchObject({ same: true, hasKey: false });
      expect(json(await ask('/plain', { key: newKey() }))).toEqual({ current: true });
      expect(app.app.get(IdempotencyService).current()).toBeUndefined();
    });

    it('cannot be had in a handler that is not decorated', async () => {
      expect((await ask('/undecorated', { key: newKey() })).status).toBe(500);
      expect(ledger.runs('undecorated')).toBe(0);
    });

    it('derives keys that are stable for the key, and others for every other name, key and caller', async () => {
      const key = newKey();
      const keysOf = async (sent: Sent): Promise<Record<string, string>> => json(await ask('/execution', sent)) as Record<string, string>;
      const ann = await keysOf({ key, headers: as({ id: 'ann' }) });
      const bob = await keysOf({ key, headers: as({ id: 'bob' }) });
      const other = await keysOf({ key: newKey(), headers: as({ id: 'ann' }) });
      expect(ann['chargeAgain']).toBe(ann['charge']);
      expect(new Set([ann, bob, other].flatMap(({ charge, mail }) => [charge, mail])).size).toBe(6);
      expect(ann['charge']).toMatch(/^[\w-]{1,64}$/);
      expect(ann['charge']).not.toContain(key);
    });

    it('derives the same keys in the next attempt, after a crash', async () => {
      const key = newKey();
      const first = json(await ask('/lost', { key })) as Record<string, unknown>;
      await shared.alter(
        key,
        "state = 0, completed_at = null, expires_at = null, status = null, headers = null, body = null, locked_until = now() - interval '1 s'",
      );
      const second = json(await ask('/lost', { key })) as Record<string, unknown>;
      expect([first['attempt'], second['attempt']]).toEqual([1, 2]);
      expect(second).toEqual({ ...first, attempt: 2 });
    });

    it('derives random keys where none came', async () => {
      const [first, second] = [json(await ask('/unkeyed')), json(await ask('/unkeyed'))] as Record<string, unknown>[];
      expect(second?.['charge']).not.toBe(first?.['charge']);
    });
  });

  describe('with requests at the same time', () => {
    /** Holds the handler of `/slow` from when `arrived` resolves until `open` is called. */
    const hold = (): { arrived: Promise<void>; open: () => void } => {
      gate = barrier(2);
      let open!: () => void;
      opened = new Promise((resolve) => (open = resolve));
      return { arrived: gate.arrive(), open };
    };

    it('lets one run and refuses the other with 409 and Retry-After', async () => {
      const { arrived, open } = hold();
      const key = newKey();
      const first = ask('/slow', { key });
      await arrived;
      const second = await ask('/slow', { key });
      open();
      expect([second.status, codeOf(second), field(second, 'retry-after')]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE', '1']);
      expect((await first).status).toBe(201);
      const third = await ask('/slow', { key });
      expect([isReplay(third), runOf(third)]).toEqual([true, runOf(await first)]);
    });

    it('runs once for twenty', async () => {
      const { arrived, open } = hold();
      const before = ledger.runs('slow');
      const key = newKey();
      let refused = 0;
      const all = Promise.all(
        Array.from({ length: 20 }, async () => {
          const answer = await ask('/slow', { key });
          if (answer.status === 409 && ++refused === 19) open();
          return answer;
        }),
      );
      await arrived;
      const answers = await all;
      expect([answers.filter(({ status }) => status === 201).length, answers.filter(({ status }) => status === 409).length]).toEqual([
        1, 19,
      ]);
      expect(ledger.runs('slow')).toBe(before + 1);
    });

    it('runs each of twenty callers with one key', async () => {
      const key = newKey();
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) => ask('/execution', { key, headers: as({ id: `caller ${i}` }) })),
      );
      expect(new Set(answers.map((answer) => (json(answer) as { scope: string }).scope)).size).toBe(20);
      expect(answers.every(({ status }) => status === 201)).toBe(true);
    });
  });
});
