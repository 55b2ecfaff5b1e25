import { describe, expect, it } from '@jest/globals';
import { Catch, Controller, Headers, Param, Post, RequestTimeoutException, UseFilters, UseInterceptors } from '@nestjs/common';
import type { ArgumentsHost, CallHandler, ExceptionFilter, ExecutionContext, NestInterceptor, PipeTransform } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Pool } from 'pg';
import { Observable, TimeoutError, catchError, defer, of, throwError, timeout } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, json, send } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const patient = { 'x-patient': 'yes' };
const ledger = new Ledger();

/** Notes a run down: how many there were for that key. */
function runOf(key: string): number {
  ledger.run(key);
  return ledger.runs(key);
}

/** As the Nest documentation writes it, but that it waits for those who ask for it: only what shall time out does. */
class Impatient implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, unknown> }>();
    return next.handle().pipe(
      timeout({
        each: headers['x-patient'] === undefined ? 30 : 60_000,
        ...(headers['x-accept'] !== undefined && { with: () => of({ accepted: true }) }),
      }),
      catchError((error) => throwError(() => (error instanceof TimeoutError ? new RequestTimeoutException() : error))),
    );
  }
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
function impatientMiddleware(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  if (request.headers['x-patient'] === undefined) setTimeout(() => response.writeHead(408).end(), 30);
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
          const timedOut = await send(`${url}/${kind}`, { key });
          expect([timedOut.status, isReplay(timedOut)]).toEqual([408, false]);
          const retry = await send(`${url}/${kind}`, { key, headers: patient });
          expect([retry.status, codeOf(retry)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
          expect(ledger.runs(key)).toBe(1);
        }));

      it('is no answer to keep: what the handler has done after it is not done again, and can’t be replayed', () =>
        within(async (url, key) => {
          await send(`${url}/${kind}`, { key });
          stage.open(key);
          await until(async () => codeOf(await send(`${url}/${kind}`, { key, headers: patient })) !== 'IDEMPOTENCY_KEY_IN_USE');
          const retry = await send(`${url}/${kind}`, { key, headers: patient });
          expect([retry.status, codeOf(retry)]).toEqual([409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE']);
          expect(ledger.runs(key)).toBe(1);
        }));

      it('leaves a key that is free if the handler fails after it', () =>
        within(async (url, key) => {
          await send(`${url}/${kind}`, { key });
          stage.fail(key, new Error('the provider is away'));
          await until(async () => (await shared.records(key)) === 0);
          await send(`${url}/${kind}`, { key, headers: patient });
          expect(ledger.runs(key)).toBe(2);
        }));

      it('with another answer in its place is no answer to keep, either', () =>
        within(async (url, key) => {
          const accepted = await send(`${url}/${kind}`, { key, headers: { 'x-accept': 'yes' } });
          expect([accepted.status, json(accepted)]).toEqual([201, { accepted: true }]);
          expect(codeOf(await send(`${url}/${kind}`, { key, headers: patient }))).toBe('IDEMPOTENCY_KEY_IN_USE');
          stage.open(key);
          await until(async () => codeOf(await send(`${url}/${kind}`, { key, headers: patient })) !== 'IDEMPOTENCY_KEY_IN_USE');
          expect(codeOf(await send(`${url}/${kind}`, { key, headers: patient }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
          expect(ledger.runs(key)).toBe(1);
        }));

      it('that does not fire changes nothing', () =>
        within(async (url, key) => {
          stage.open(key);
          const first = await send(`${url}/${kind}`, { key, headers: patient });
          expect(json(first)).toEqual({ run: 1 });
          expect(isReplay(await send(`${url}/${kind}`, { key, headers: patient }))).toBe(true);
        }));
    });

    it('before the handler has begun frees the key, and the handler never begins', () =>
      within(async (url, key) => {
        expect((await send(`${url}/validated/${key}`, { key })).status).toBe(408);
        expect(await shared.records(key)).toBe(0);
        stage.open(`${key} pipe`);
        const retry = await send(`${url}/validated/at-once`, { key, headers: patient });
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
        const first = send(`${url}/outer/rendered-late/${key}`, { key });
        await stage.reached(`${key} filter`);
        await until(async () => (await shared.records(key)) === 0);
        stage.open(`${key} filter`);
        expect((await first).status).toBe(408);
        stage.open(`${key} pipe`);
        expect((await send(`${url}/outer/rendered-late/at-once`, { key, headers: patient })).status).toBe(201);
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
        expect((await send(`${url}/outer/promise`, { key })).status).toBe(408);
        proxy.restore();
        await until(async () => proxy.statements.includes('idempotency_release') && (await shared.records(key)) === 0);
        expect(ledger.runs(key)).toBe(0);
        const retry = await send(`${url}/outer/promise`, { key, headers: patient });
        expect([retry.status, ledger.runs(key)]).toEqual([201, 1]);
      });
    } finally {
      await proxy.close();
    }
  }

  it('in an interceptor frees the key, and the handler never begins', () => slowClaim(POSITIONS.outer));

  it('in a middleware does so, too', () => slowClaim({ controllers: [Outer], configure: (app) => void app.use(impatientMiddleware) }));
});
