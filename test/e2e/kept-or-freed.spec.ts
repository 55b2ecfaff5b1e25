import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  BadGatewayException,
  Body,
  Catch,
  Controller,
  ForbiddenException,
  HttpException,
  Param,
  ParseIntPipe,
  Post,
  Query,
  Res,
  UnauthorizedException,
} from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter, ExecutionContext } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { bare } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;

@Controller()
class Outcomes {
  @Post('thrown/:status')
  @Idempotent()
  throws(@Param('status', ParseIntPipe) status: number): never {
    throw new HttpException({ run: ledger.run('thrown') }, status);
  }

  @Post('set/:status')
  @Idempotent()
  sets(@Param('status', ParseIntPipe) status: number, @Res({ passthrough: true }) response: PlatformResponse): object {
    response.status(status);
    return { run: ledger.run('set') };
  }

  @Post('unknown')
  @Idempotent()
  async unknown(): Promise<never> {
    ledger.run('unknown');
    return Promise.reject(new TypeError('x is not a function'));
  }

  @Post('everything/:status')
  @Idempotent({ storeIf: 'all' })
  everything(@Param('status', ParseIntPipe) status: number): never {
    throw new HttpException({ run: ledger.run('everything') }, status);
  }

  /** Keeps a failure of the provider that is final, and no refusal. */
  @Post('chosen/:status')
  @Idempotent({ storeIf: (status, error) => status < 400 || (error instanceof BadGatewayException && error.message === 'final') })
  chosen(@Param('status', ParseIntPipe) status: number, @Query('message') message: string): object {
    const run = ledger.run('chosen');
    if (status === 502) throw new BadGatewayException({ run }, { description: message, cause: new Error(message) });
    if (status >= 400) throw new HttpException({ run }, status);
    return { run };
  }

  @Post('broken-rule')
  @Idempotent({
    storeIf: () => {
      throw new Error('the rule is broken');
    },
  })
  brokenRule(): object {
    return { run: ledger.run('broken-rule') };
  }

  @Post('large')
  @Idempotent({ maxBodyBytes: 1000 })
  large(@Body() { bytes, status = 201 }: { bytes: number; status?: number }): object {
    const answer = { run: ledger.run('large'), padding: 'x'.repeat(bytes) };
    if (status >= 400) throw new HttpException(answer, status);
    return answer;
  }

  @Post('large-stream')
  @Idempotent({ maxBodyBytes: 1000 })
  largeStream(@Res() response: PlatformResponse): void {
    ledger.run('large-stream');
    const raw = bare(response);
    raw.statusCode = 200;
    Readable.from(chunks()).pipe(raw);
  }

  @Post('events')
  @Idempotent()
  async events(@Res() response: PlatformResponse): Promise<void> {
    ledger.run('events');
    const raw = bare(response);
    raw.writeHead(200, { 'content-type': 'text/event-stream' });
    raw.write('data: 1\n\n');
    await awaitTheFirstEvent;
    raw.end('data: 2\n\n');
  }

  @Post('trailers')
  @Idempotent()
  trailers(@Res() response: PlatformResponse): void {
    ledger.run('trailers');
    const raw = bare(response);
    raw.writeHead(200, { 'content-type': 'text/plain', trailer: 'x-digest' });
    raw.write('counted');
    raw.addTrailers({ 'x-digest': 'abc' });
    raw.end();
  }

  @Post('guarded')
  @Idempotent()
  guarded(): object {
    return { run: ledger.run('guarded'), secret: 'for Ann only' };
  }

  @Post('headers')
  @Idempotent()
  headers(@Res({ passthrough: true }) response: PlatformResponse): object {
    const run = ledger.run('headers');
    response
      .header('x-run', String(run))
      .header('x-other', String(run))
      .header('x-parts', [`${run}a`, `${run}b`])
      .header('set-cookie', `session=${run}`);
    return { run };
  }
}

let awaitTheFirstEvent: Promise<unknown> = Promise.resolve();
const CHUNK = 'y'.repeat(700);

function* chunks(): Generator<string> {
  for (let i = 0; i < 100; i++) yield CHUNK;
}

describe.each(PLATFORMS)('what becomes of an outcome on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Outcomes], create: { logger: journal } });
  });
  const twice = async (path: string, body?: unknown): Promise<readonly [Answer, Answer, string]> => {
    const key = newKey();
    const first = await send(`${app.url}${path}`, { key, body });
    return [first, await send(`${app.url}${path}`, { key, body }), key];
  };

  it.each([200, 201, 202, 299, 301, 400, 402, 404, 409, 410, 418, 422, 451, 499])('%i is kept, thrown or set', async (status) => {
    for (const how of ['thrown', 'set']) {
      const [first, second] = await twice(`/${how}/${status}`);
      expect([first.status, second.status, isReplay(second)]).toEqual([status, status, true]);
      expect(runOf(second)).toBe(runOf(first));
    }
  });

  it.each([401, 403, 408, 425, 429, 500, 501, 502, 503, 504, 599])(
    '%i is not: the key is free, and the handler runs again',
    async (status) => {
      for (const how of ['thrown', 'set']) {
        const [first, second, key] = await twice(`/${how}/${status}`);
        expect([first.status, second.status, isReplay(second)]).toEqual([status, status, false]);
        expect(runOf(second)).not.toBe(runOf(first));
        expect(await shared.records(key)).toBe(0);
      }
    },
  );

  it('an unknown error is not', async () => {
    const before = ledger.runs('unknown');
    const [first, second, key] = await twice('/unknown');
    expect([first.status, second.status, ledger.runs('unknown'), await shared.records(key)]).toEqual([500, 500, before + 2, 0]);
  });

  it('a free key is free for another request, too', async () => {
    const key = newKey();
    expect((await send(`${app.url}/thrown/503`, { key })).status).toBe(503);
    expect((await send(`${app.url}/set/201`, { key, body: { other: true } })).status).toBe(201);
  });

  it.each([201, 401, 429, 500, 503])("storeIf: 'all' keeps %i", async (status) => {
    const [first, second] = await twice(`/everything/${status}`);
    expect([first.status, second.status, isReplay(second), runOf(second)]).toEqual([status, status, true, runOf(first)]);
  });

  it('a storeIf function decides by status and error', async () => {
    const kept = async (path: string): Promise<boolean> => isReplay((await twice(path))[1]);
    expect([await kept('/chosen/201?message=ok'), await kept('/chosen/404?message=no'), await kept('/chosen/502?message=later')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('a storeIf function that fails does not decide: the default rule does, and the log says so', async () => {
    const [first, second] = await twice('/broken-rule');
    expect([isReplay(second), runOf(second)]).toEqual([true, runOf(first)]);
    expect(journal.own('error').join('\n')).toContain('Outcomes.brokenRule: storeIf failed');
  });

  it('larger than maxBodyBytes passes whole, and is not run again', async () => {
    const before = ledger.runs('large');
    const [first, second] = await twice('/large', { bytes: 100_000 });
    expect([first.status, (json(first) as { padding: string }).padding.length]).toEqual([201, 100_000]);
    expect([second.status, codeOf(second), ledger.runs('large')]).toEqual([409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE', before + 1]);
    expect(field(second, 'retry-after')).toBeUndefined();
  });

  it('up to maxBodyBytes exactly is kept', async () => {
    const around = (bytes: number): Promise<readonly [Answer, Answer, string]> => twice('/large', { bytes });
    const [probe] = await around(10);
    const padding = 1000 - (probe.body.length - 10) - String(ledger.total + 1).length + String(ledger.total).length;
    const [first, second] = await around(padding);
    expect([first.body.length, isReplay(second)]).toEqual([1000, true]);
    const [, tooLarge] = await around(padding + 1);
    expect(codeOf(tooLarge)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('not to be kept and large passes whole, and the key is free', async () => {
    const [first, second, key] = await twice('/large', { bytes: 50_000, status: 503 });
    expect([first.status, second.status, first.body.length > 50_000, await shared.records(key)]).toEqual([503, 503, true, 0]);
    expect(runOf(second)).not.toBe(runOf(first));
  });

  it('not to be kept and large looks sent to its filter while its key is being freed', async () => {
    const seen: unknown[] = [];
    @Catch(HttpException)
    class Looking implements ExceptionFilter<HttpException> {
      async catch(error: HttpException, host: ArgumentsHost): Promise<void> {
        const response = host.switchToHttp().getResponse<PlatformResponse>();
        response.status(error.getStatus()).send(error.getResponse());
        for (let tick = 0; tick < 20; tick++) await Promise.resolve();
        const raw = response.raw ?? (response as unknown as ServerResponse);
        seen.push(raw.headersSent, raw.writableEnded);
      }
    }
    const configure = (nest: RunningApp['app']): void => void nest.useGlobalFilters(new Looking());
    await shared.within(platform, { controllers: [Outcomes], configure }, async ({ url }) => {
      const answer = await send(`${url}/large`, { key: newKey(), body: { bytes: 50_000, status: 503 } });
      expect([answer.status, answer.body.length > 50_000, seen]).toEqual([503, true, [true, true]]);
    });
  });

  it('a large stream passes whole, and is sealed before its first byte leaves', async () => {
    const [first, second] = await twice('/large-stream');
    expect([first.status, first.text === CHUNK.repeat(100)]).toEqual([200, true]);
    expect(codeOf(second)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('an event stream flows while it is made, and is sealed', async () => {
    const key = newKey();
    let heard!: () => void;
    awaitTheFirstEvent = new Promise<void>((resolve) => (heard = resolve));
    const { request } = await import('node:http');
    const sending = request(`${app.url}/events`, { method: 'POST', agent: false, headers: { 'idempotency-key': key } }).end();
    const [response] = (await once(sending, 'response')) as [Readable];
    const [event] = (await once(response, 'data')) as [Buffer];
    expect(event.toString()).toBe('data: 1\n\n');
    const sealed = await send(`${app.url}/events`, { key });
    heard();
    await once(response.resume(), 'end');
    expect(codeOf(sealed)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('an answer with trailers passes with them, and is sealed', async () => {
    const [first, second] = await twice('/trailers');
    expect([first.text, first.trailers]).toEqual(['counted', { 'x-digest': 'abc' }]);
    expect(codeOf(second)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('keeps the headers that replayHeaders names, and never a cookie', async () => {
    await shared.within(platform, { controllers: [Outcomes], options: { replayHeaders: ['X-Run', 'X-Parts'] } }, async ({ url }) => {
      const key = newKey();
      const [first, second] = [await send(`${url}/headers`, { key }), await send(`${url}/headers`, { key })];
      expect(first.headers['set-cookie']).toHaveLength(1);
      expect(second.headers).toMatchObject({ 'x-run': first.headers['x-run'], 'x-parts': first.headers['x-parts'] });
      expect(second.headers['x-parts']).toHaveLength(2);
      expect([second.headers['x-other'], second.headers['set-cookie']]).toEqual([undefined, undefined]);
    });
  });

  it.each<[status: number, refuse: () => boolean]>([
    [403, () => false],
    [
      401,
      () => {
        throw new UnauthorizedException();
      },
    ],
    [
      403,
      () => {
        throw new ForbiddenException('revoked');
      },
    ],
  ])('is not told to a caller whom a guard refuses by now: %i', async (status, refuse) => {
    let revoked = false;
    const configure = (nest: RunningApp['app']): void =>
      void nest.useGlobalGuards({ canActivate: (_context: ExecutionContext) => (revoked ? refuse() : true) });
    await shared.within(platform, { controllers: [Outcomes], configure }, async ({ url }) => {
      const key = newKey();
      expect((await send(`${url}/guarded`, { key })).status).toBe(201);
      revoked = true;
      const refused = await send(`${url}/guarded`, { key });
      expect([refused.status, isReplay(refused), refused.text.includes('Ann')]).toEqual([status, false, false]);
      revoked = false;
      expect(isReplay(await send(`${url}/guarded`, { key }))).toBe(true);
    });
  });
});
