import { beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Header, HttpException, Post, Res } from '@nestjs/common';
import type { CallHandler, ExecutionContext } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import type { PlatformResponse } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { field, isReplay, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();

@Controller()
class Shop {
  @Post('payments')
  @Header('X-Fixed', 'decorated')
  @Idempotent()
  pay(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.header('set-cookie', ['a=1', 'b=2']).header('x-secret', 'of the first run').header('location', '/payments/1');
    return { paid: true };
  }

  @Post('declined')
  @Idempotent()
  decline(): never {
    throw new HttpException({ declined: true }, 402);
  }

  @Post('accepted')
  @Idempotent()
  accept(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.status(202);
    return { accepted: true };
  }
}

describe.each(PLATFORMS)('a replay on %s belongs to the request that asks now', (platform) => {
  let app: RunningApp;

  beforeAll(async () => {
    app = await shared.start(platform, {
      controllers: [Shop],
      configure(nest) {
        nest.enableCors({
          origin: ['https://one.example', 'https://two.example'],
          credentials: true,
          exposedHeaders: ['Idempotent-Replayed'],
        });
        nest.use((request: IncomingMessage, response: ServerResponse, next: () => void) => {
          response.setHeader('X-Request-Id', String(request.headers['x-request-id']));
          response.setHeader('Set-Cookie', [`visit=${String(request.headers['x-request-id'])}`, 'theme=dark']);
          next();
        });
        if (platform === 'fastify') {
          const instance = nest.getHttpAdapter().getInstance() as FastifyHooks;
          instance.addHook('onRequest', (request, reply, done) => {
            reply.header('x-hook', String(request.headers['x-request-id']));
            reply.header('x-hooks', [`${String(request.headers['x-request-id'])}a`, 'b']);
            done();
          });
        }
        nest.useGlobalInterceptors({
          intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
            context.switchToHttp().getResponse<PlatformResponse>().header('x-within', 'first run');
            return next.handle();
          },
        });
      },
    });
  });

  const ask = (key: string, id: string, origin: string): Promise<Answer> =>
    send(`${app.url}/payments`, { key, headers: { 'x-request-id': id, origin } });

  it('with its own CORS, middleware and hook headers, and the first answer’s essence', async () => {
    const key = newKey();
    const first = await ask(key, 'r1', 'https://one.example');
    const second = await ask(key, 'r2', 'https://two.example');
    expect([isReplay(first), isReplay(second)]).toEqual([false, true]);
    expect(essence(second)).toEqual(essence(first));
    expect([field(first, 'access-control-allow-origin'), field(second, 'access-control-allow-origin')]).toEqual([
      'https://one.example',
      'https://two.example',
    ]);
    expect(field(second, 'access-control-allow-credentials')).toBe('true');
    expect([field(first, 'x-request-id'), field(second, 'x-request-id')]).toEqual(['r1', 'r2']);
    expect(field(second, 'x-fixed')).toBe('decorated'); // Nest sets it for every request
    if (platform === 'fastify') {
      expect([field(first, 'x-hook'), field(second, 'x-hook')]).toEqual(['r1', 'r2']);
      expect(second.headers['x-hooks']).toEqual(['r2a', 'b']);
    }
  });

  it('without cookies or headers of the first run, and with the cookies of its own', async () => {
    const key = newKey();
    const first = await ask(key, 'r1', 'https://one.example');
    const second = await ask(key, 'r2', 'https://one.example');
    expect(first.headers['set-cookie']).toEqual(expect.arrayContaining(['a=1', 'b=2']));
    expect(second.headers['set-cookie']).toEqual(['visit=r2', 'theme=dark']);
    expect([field(first, 'x-secret'), field(second, 'x-secret')]).toEqual(['of the first run', undefined]);
    expect([field(first, 'x-within'), field(second, 'x-within')]).toEqual(['first run', undefined]);
  });

  it('with a date of its own', async () => {
    const key = newKey();
    await ask(key, 'r1', 'https://one.example');
    const { rows } = await shared
      .database()
      .pool.query<{ headers: string }>("select convert_from(headers, 'UTF8') as headers from idempotency_records where key = $1", [key]);
    expect(rows[0]?.headers).not.toMatch(/"(date|set-cookie|connection|access-control|x-request-id|x-hook)/i);
    const [date, ...more] = (await ask(key, 'r2', 'https://one.example')).headers['date'] ?? [];
    expect(more).toEqual([]);
    expect(Number.isNaN(Date.parse(date ?? ''))).toBe(false);
  });
});

/** How a middleware holds the end of an answer back. */
type Hold = (end: (body?: Buffer) => void, write: (body: Buffer) => void, body: Buffer | undefined) => void;

/** As sessions and access logs stand in front of a response: a cookie at the last moment, an end when it is saved, a note of the status. */
function standInFront(nest: RunningApp['app'], hold: Hold, ends: number[], logged: number[]): void {
  nest.use((_request: IncomingMessage, response: ServerResponse, next: () => void) => {
    const { end, write, writeHead } = response;
    response.writeHead = ((...args: unknown[]) => {
      response.setHeader('X-Session', 'saved');
      return Reflect.apply(writeHead, response, args) as ServerResponse;
    }) as ServerResponse['writeHead'];
    response.end = ((...args: unknown[]) => {
      ends.push(response.statusCode);
      const body = args[0] as Buffer | undefined;
      hold(
        (bytes) => void (bytes === undefined ? Reflect.apply(end, response, []) : Reflect.apply(end, response, [bytes])),
        (bytes) => void Reflect.apply(write, response, [bytes]),
        body,
      );
      return response;
    }) as ServerResponse['end'];
    response.on('finish', () => logged.push(response.statusCode));
    next();
  });
}

describe.each(PLATFORMS)('a replay on %s goes through what a middleware has put in front of the response', (platform) => {
  it.each<[when: string, hold: Hold]>([
    ['at once', (end, _write, body) => end(body)],
    ['after a while, as a session store does', (end, _write, body) => void setTimeout(() => end(body), 5)],
    [
      'after its body, as compression does',
      (end, write, body) => {
        if (body !== undefined) write(body);
        setTimeout(() => end(), 5);
      },
    ],
  ])('that ends it %s', async (_when, hold) => {
    const [ends, logged]: [number[], number[]] = [[], []];
    await shared.within(platform, { controllers: [Shop], configure: (nest) => standInFront(nest, hold, ends, logged) }, async ({ url }) => {
      for (const path of ['/payments', '/declined', '/accepted']) {
        const sent = { key: newKey() };
        const answers = [await send(`${url}${path}`, sent), await send(`${url}${path}`, sent), await send(`${url}${path}`, sent)] as const;
        expect(answers.map(isReplay)).toEqual([false, true, true]);
        expect([essence(answers[1]), essence(answers[2])]).toEqual([essence(answers[0]), essence(answers[0])]);
        expect(answers.map((answer) => field(answer, 'x-session'))).toEqual(['saved', 'saved', 'saved']);
      }
      while (logged.length < ends.length) await new Promise((resolve) => setImmediate(resolve)); // a client may have all it needs before the end
    });
    expect(ends).toEqual([201, 201, 201, 402, 402, 402, 202, 202, 202]);
    expect(logged).toEqual(ends);
  });
});

interface FastifyHooks {
  addHook(
    name: 'onRequest',
    hook: (
      request: { headers: IncomingMessage['headers'] },
      reply: { header(name: string, value: string | string[]): unknown },
      done: () => void,
    ) => void,
  ): void;
}
