import { describe, expect, it } from '@jest/globals';
import { Catch, Controller, Headers, Param, Post, RequestTimeoutException, UseFilters, UseInterceptors } from '@nestjs/common';
import type { ArgumentsHost, CallHandler, ExceptionFilter, ExecutionContext, NestInterceptor, PipeTransform } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Pool } from 'pg';
import { defer, map, race } from 'rxjs';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

/** Notes a run down: how many there were for that key. */
function runOf(key: string): number {
  ledger.run(key);
  return ledger.runs(key);
}

/** A time-out as an interceptor makes it, but that the test says when the time is over. Only requests that ask for it have one. */
class Impatient implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    const cue = headers['x-time-out'];
    if (cue === undefined) return next.handle();
    const timeOut = defer(() => stage.stopAt(cue)).pipe(map(() => answerInstead(headers['x-accept'] !== undefined)));
    return race(next.handle(), timeOut);
  }
}

function answerInstead(accept: boolean): object {
  if (accept) return { accepted: true };
  throw new RequestTimeoutException();
}

/** A request whose time is over when somebody has come to `cue`. */
async function timedOutAt(cue: string, url: string, key: string, headers: Record<string, string> = {}): Promise<Answer> {
  const sent = send(url, { key, headers: { 'x-time-out': `${key} time-out`, ...headers } });
  await stage.reached(cue);
  stage.open(`${key} time-out`);
  return sent;
}

const slowPipe: PipeTransform<string, Promise<string>> = {
  async transform(value) {
    if (value !== 'at-once') await stage.stopAt(`${value} pipe`);
    return value;
  },
};

@Catch(RequestTimeoutException)
class SlowFilter implements ExceptionFilter {
  async catch(_error: RequestTimeoutException, host: ArgumentsHost): Promise<void> {
    const request = host.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    await stage.stopAt(`${request.headers['idempotency-key']} filter`);
    const response = host.switchToHttp().getResponse<{ status(code: number): { send(body: object): void } }>();
    response.status(408).send({ late: true });
  }
}

/** Answers in the place of whoever takes too long. */
function impatientMiddleware({ headers }: IncomingMessage, response: ServerResponse, next: () => void): void {
  const cue = headers['x-time-out'];
  if (cue !== undefined) void stage.stopAt(String(cue)).then(() => response.writeHead(408).end());
  next();
}

async function work(key: string): Promise<object> {
  const run = runOf(key);
  await stage.stopAt(key);
  return { run };
}

@Controller('outer')
class Outer {
  @Idempotent()
  @Post('promise')
  promise(@Headers('idempotency-key') key: string): Promise<object> {
    return work(key);
  }

  @Idempotent()
  @Post('observable')
  observable(@Headers('idempotency-key') key: string): Observable<object> {
    return defer(() => work(key));
  }

  @Idempotent()
  @Post('validated/:value')
  validated(@Headers('idempotency-key') key: string, @Param('value', slowPipe) _value: string): object {
    return { run: runOf(key) };
  }

  @Idempotent()
  @Post('rendered-late/:value')
  @UseFilters(SlowFilter)
  renderedLate(@Headers('idempotency-key') key: string, @Param('value', slowPipe) _value: string): object {
    return { run: runOf(key) };
  }
}

@Controller('inner')
@UseInterceptors(Impatient)
class Inner {
  @Idempotent()
  @Post('promise')
  promise(@Headers('idempotency-key') key: string): Promise<object> {
    return work(key);
  }

  @Idempotent()
  @Post('observable')
  observable(@Headers('idempotency-key') key: string): Observable<object> {
    return defer(() => work(key));
  }

  @Idempotent()
  @Post('validated/:value')
  validated(@Headers('idempotency-key') key: string, @Param('value', slowPipe) _value: string): object {
    return { run: runOf(key) };
  }
}

const POSITIONS = {
  outer: { controllers: [Outer], providers: [{ provide: APP_INTERCEPTOR, useClass: Impatient }] },
  inner: { controllers: [Inner] },
};

describe.each(PLATFORMS.flatMap((platform) => (['outer', 'inner'] as const).map((position) => ({ platform, position }))))(
  'a time-out in an $position interceptor on $platform',
  ({ platform, position }) => {
    const within = (test: (url: string, key: string) => Promise<void>): Promise<void> =>
      shared.within(platform, POSITIONS[position], ({ url }) => test(`${url}/${position}`, newKey()).finally(() => stage.openAll()));

    describe.each(['promise', 'observable'])('of a handler that returns the %s', (kind) => {
      it('is the client’s answer at once, while the key stays in use', () =>
        within(async (url, key) => {
          const timedOut = await timedOutAt(key, `${url}/${kind}`, key);
          expect([timedOut.status, isReplay(timedOut)]).toEqual([408, false]);
          const retry = await send(`${url}/${kind}`, { key });
          expect([retry.status, codeOf(retry)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
          expect(ledger.runs(key)).toBe(1);
        }));

      it('is no answer to keep: what the handler has done after it is not done again, and can’t be replayed', () =>
        within(async (url, key) => {
          await timedOutAt(key, `${url}/${kind}`, key);
          stage.open(key);
          await until(async () => codeOf(await send(`${url}/${kind}`, { key })) !== 'IDEMPOTENCY_KEY_IN_USE');
          const retry = await send(`${url}/${kind}`, { key });
          expect([retry.status, codeOf(retry)]).toEqual([409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE']);
          expect(ledger.runs(key)).toBe(1);
        }));

      it('leaves a key that is free if the handler fails after it', () =>
        within(async (url, key) => {
          await timedOutAt(key, `${url}/${kind}`, key);
          stage.fail(key, new Error('the provider is away'));
          await until(async () => (await shared.records(key)) === 0);
          await send(`${url}/${kind}`, { key });
          expect(ledger.runs(key)).toBe(2);
        }));

      it('with another answer in its place is no answer to keep, either', () =>
        within(async (url, key) => {
          const accepted = await timedOutAt(key, `${url}/${kind}`, key, { 'x-accept': 'yes' });
          expect([accepted.status, json(accepted)]).toEqual([201, { accepted: true }]);
          expect(codeOf(await send(`${url}/${kind}`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
          stage.open(key);
          await until(async () => codeOf(await send(`${url}/${kind}`, { key })) !== 'IDEMPOTENCY_KEY_IN_USE');
          expect(codeOf(await send(`${url}/${kind}`, { key }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
          expect(ledger.runs(key)).toBe(1);
        }));

      it('that does not fire changes nothing', () =>
        within(async (url, key) => {
          stage.open(key);
          const first = await send(`${url}/${kind}`, { key });
          expect(json(first)).toEqual({ run: 1 });
          expect(isReplay(await send(`${url}/${kind}`, { key }))).toBe(true);
        }));
    });

    it('before the handler has begun frees the key, and the handler never begins', () =>
      within(async (url, key) => {
        expect((await timedOutAt(`${key} pipe`, `${url}/validated/${key}`, key)).status).toBe(408);
        expect(await shared.records(key)).toBe(0);
        stage.open(`${key} pipe`);
        const retry = await send(`${url}/validated/at-once`, { key });
        expect([retry.status, isReplay(retry)]).toEqual([201, false]);
        expect(ledger.runs(key)).toBe(1);
      }));
  },
);

describe.each(PLATFORMS)('a time-out before the handler has begun, on %s', (platform) => {
  it('frees the key even if nobody ever answers', () =>
    shared
      .within(platform, POSITIONS.outer, async ({ url }) => {
        const key = newKey();
        const first = timedOutAt(`${key} pipe`, `${url}/outer/rendered-late/${key}`, key);
        await stage.reached(`${key} filter`);
        await until(async () => (await shared.records(key)) === 0);
        stage.open(`${key} filter`);
        expect((await first).status).toBe(408);
        stage.open(`${key} pipe`);
        expect((await send(`${url}/outer/rendered-late/at-once`, { key })).status).toBe(201);
        expect(ledger.runs(key)).toBe(1);
      })
      .finally(() => stage.openAll()));
});

describe.each(PLATFORMS)('a time-out while the claim is on its way, on %s', (platform) => {
  /** Nothing comes through to Postgres when the request arrives, and everything does after it was answered. */
  async function slowClaim(parts: AppParts): Promise<void> {
    const proxy = await startTcpProxy(shared.database().url);
    const pool = new Pool({ connectionString: proxy.url });
    try {
      await shared.within(platform, { ...parts, options: { pool } }, async ({ url }) => {
        const key = newKey();
        stage.open(key);
        proxy.hang();
        const first = send(`${url}/outer/promise`, { key, headers: { 'x-time-out': `${key} time-out` } });
        await until(() => proxy.statements.includes('idempotency_claim'));
        stage.open(`${key} time-out`);
        expect((await first).status).toBe(408);
        proxy.restore();
        await until(async () => proxy.statements.includes('idempotency_release') && (await shared.records(key)) === 0);
        expect(ledger.runs(key)).toBe(0);
        const retry = await send(`${url}/outer/promise`, { key });
        expect([retry.status, ledger.runs(key)]).toEqual([201, 1]);
      });
    } finally {
      await proxy.close();
    }
  }

  it('in an interceptor frees the key, and the handler never begins', () => slowClaim(POSITIONS.outer));

  it('in a middleware does so, too', () => slowClaim({ controllers: [Outer], configure: (app) => void app.use(impatientMiddleware) }));
});
