import { beforeAll, describe, expect, it } from '@jest/globals';
import { Catch, Controller, Get, Header, HttpException, Injectable, Post, Sse } from '@nestjs/common';
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { NEVER } from 'rxjs';
import type { Observable } from 'rxjs';
import { IdempotencyException, IdempotencyOptionsError, Idempotent, isIdempotencyError } from '../../lib/index.js';
import type { IdempotencyModuleOptions } from '../../lib/index.js';
import { PLATFORMS, startApp } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import type { PlatformResponse } from './support/platform-response.js';
import { field, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
let released: Promise<void> = Promise.resolve();

@Controller()
class Payments {
  @Post('payments')
  @Idempotent({ required: true })
  pay(): object {
    return { run: ledger.run('pay') };
  }

  @Post('page')
  @Header('Content-Type', 'text/html')
  @Idempotent({ required: true })
  page(): string {
    return `<p>${ledger.run('page')}</p>`;
  }

  @Post('slow')
  @Idempotent({ retryAfter: '2500ms' })
  async slow(): Promise<object> {
    const run = ledger.run('slow');
    await released;
    return { run };
  }

  @Post('sealed')
  @Idempotent({ maxBodyBytes: 1 })
  sealed(): object {
    return { run: ledger.run('sealed') };
  }

  @Post('careful')
  @Idempotent({ onLostExecution: 'reject' })
  careful(): object {
    return { run: ledger.run('careful') };
  }
}

/** Brings each refusal about. */
const situations: [code: string, status: number, retryAfter: string | undefined, provoke: (url: string, key: string) => Promise<Answer>][] =
  [
    ['IDEMPOTENCY_KEY_REQUIRED', 400, undefined, (url) => send(`${url}/payments`)],
    ['IDEMPOTENCY_KEY_INVALID', 400, undefined, (url, key) => send(`${url}/payments`, { key: `${key},${key}` })],
    ['IDEMPOTENCY_SCOPE_REQUIRED', 500, undefined, (url, key) => send(`${url}/payments`, { key, headers: { authorization: 'Bearer x' } })],
    [
      'IDEMPOTENCY_KEY_REUSED',
      422,
      undefined,
      async (url, key) => {
        await send(`${url}/payments`, { key, body: { amount: 1 } });
        return send(`${url}/payments`, { key, body: { amount: 2 } });
      },
    ],
    [
      'IDEMPOTENCY_KEY_IN_USE',
      409,
      '3', // whole seconds, never too early
      async (url, key) => {
        let release!: () => void;
        released = new Promise((resolve) => (release = resolve));
        const before = ledger.runs('slow');
        const first = send(`${url}/slow`, { key });
        while (ledger.runs('slow') === before) await new Promise((resolve) => setImmediate(resolve));
        const second = await send(`${url}/slow`, { key });
        release();
        await first;
        return second;
      },
    ],
    [
      'IDEMPOTENCY_OUTCOME_UNKNOWN',
      409,
      undefined,
      async (url, key) => {
        await send(`${url}/careful`, { key });
        await shared.alter(
          key,
          "state = 0, completed_at = null, expires_at = null, status = null, headers = null, body = null, locked_until = now() - interval '1 s'",
        );
        return send(`${url}/careful`, { key });
      },
    ],
    [
      'IDEMPOTENCY_RESULT_NOT_REPLAYABLE',
      409,
      undefined,
      async (url, key) => {
        await send(`${url}/sealed`, { key });
        return send(`${url}/sealed`, { key });
      },
    ],
    [
      'IDEMPOTENCY_RECORD_UNREADABLE',
      500,
      undefined,
      async (url, key) => {
        await send(`${url}/payments`, { key });
        await shared.alter(key, "headers = 'no JSON'::bytea");
        return send(`${url}/payments`, { key });
      },
    ],
  ];

describe.each(PLATFORMS)('what the module refuses on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Payments], create: { logger: journal } });
  });

  describe.each(situations)('%s', (code, status, retryAfter, provoke) => {
    it(`is answered with ${status} and problem details`, async () => {
      const key = newKey();
      const answer = await provoke(app.url, key);
      expect([answer.status, field(answer, 'cache-control'), field(answer, 'retry-after')]).toEqual([status, 'no-store', retryAfter]);
      expect(answer.headers['content-type']).toEqual([expect.stringMatching(/^application\/problem\+json(;|$)/)]);
      expect(journal.lines.join('\n')).not.toContain('Content-Type'); // no adapter is at odds with it
      const problem = json(answer);
      expect(problem).toEqual({
        type: expect.stringContaining(code.toLowerCase()),
        title: expect.any(String),
        status,
        detail: expect.any(String),
        code,
      });
      expect(answer.headers['idempotent-replayed']).toBeUndefined();
      expect(answer.text + journal.lines.join('\n')).not.toContain(key);
    });

    it('has the shape of Nest’s own where that is wished', async () => {
      await shared.within(platform, { controllers: [Payments], options: { errorFormat: 'nest' } }, async ({ url }) => {
        const answer = await provoke(url, newKey());
        expect([answer.status, field(answer, 'cache-control'), field(answer, 'retry-after')]).toEqual([status, 'no-store', retryAfter]);
        expect(answer.headers['content-type']).toEqual([expect.stringMatching(/^application\/json(;|$)/)]);
        expect(json(answer)).toEqual({ statusCode: status, error: expect.any(String), code, message: expect.any(String) });
      });
    });

    it('reaches a catch-all filter as an HttpException', async () => {
      const caught: unknown[] = [];
      @Catch()
      class Everything implements ExceptionFilter {
        catch(error: unknown, host: ArgumentsHost): void {
          caught.push(error);
          const response = host.switchToHttp().getResponse<PlatformResponse>();
          if (error instanceof HttpException) response.status(error.getStatus()).send({ mine: true, theirs: error.getResponse() });
          else response.status(500).send({ mine: true });
        }
      }
      const configure = (nest: RunningApp['app']): void => void nest.useGlobalFilters(new Everything());
      await shared.within(platform, { controllers: [Payments], configure }, async ({ url }) => {
        const answer = await provoke(url, newKey());
        expect([answer.status, field(answer, 'cache-control')]).toEqual([status, 'no-store']);
        expect(json(answer)).toEqual({ mine: true, theirs: expect.objectContaining({ code, status, title: expect.any(String) }) });
        const error = caught[0] as IdempotencyException;
        expect([
          error instanceof HttpException,
          error instanceof IdempotencyException,
          error.code,
          isIdempotencyError(error.cause),
        ]).toEqual([true, true, code, true]);
        expect(error.message).toBe((error.getResponse() as { detail: string }).detail);
      });
    });
  });

  it('has its own type also where the handler’s answer would be no JSON', async () => {
    const refused = await send(`${app.url}/page`);
    expect([refused.status, refused.headers['content-type']]).toEqual([400, [expect.stringMatching(/^application\/problem\+json(;|$)/)]]);
    const key = newKey();
    const [first, second] = [await send(`${app.url}/page`, { key }), await send(`${app.url}/page`, { key })];
    expect([field(first, 'content-type'), second.text]).toEqual([field(second, 'content-type'), first.text]);
  });

  it('a filter for these exceptions alone may answer in its own words', async () => {
    @Catch(IdempotencyException)
    class Translating implements ExceptionFilter<IdempotencyException> {
      catch(error: IdempotencyException, host: ArgumentsHost): void {
        host
          .switchToHttp()
          .getResponse<PlatformResponse>()
          .status(error.getStatus())
          .header('content-type', 'text/plain')
          .send(`Fehler ${error.code}`);
      }
    }
    const configure = (nest: RunningApp['app']): void => void nest.useGlobalFilters(new Translating());
    await shared.within(platform, { controllers: [Payments], configure }, async ({ url }) => {
      const answer = await send(`${url}/payments`);
      expect([answer.status, answer.text]).toEqual([400, 'Fehler IDEMPOTENCY_KEY_REQUIRED']);
    });
  });

  it('says nothing of keys, scopes, bodies and secrets in any line of the log', async () => {
    const options: IdempotencyModuleOptions = { scope: () => 'tenant-7f3a', fingerprintSecret: 'pepper-'.repeat(6) };
    const said = new Journal();
    await shared.within(platform, { controllers: [Payments], options, create: { logger: said } }, async ({ url }) => {
      const key = newKey();
      for (const body of [{ card: '4111' }, { card: '4242' }]) await send(`${url}/payments`, { key, body });
      await send(`${url}/payments`, { key: `${key},`, body: { card: '4111' } });
      await shared.database().pool.query('update idempotency_records set owner = gen_random_uuid() where key = $1', [key]);
      await send(`${url}/payments`, { key: `${key}x`, body: 'card=4111', headers: { 'content-type': 'text/plain' } });
      expect(said.lines.join('\n')).not.toMatch(new RegExp(`${key}|tenant-7f3a|pepper|4111|4242`));
    });
  });
});

describe.each(PLATFORMS)('the start on %s', (platform) => {
  it('tells all faults at once, each with the place and the way out', async () => {
    @Controller()
    @Idempotent({ ttl: 'soon' })
    class Faulty {
      @Get('read')
      @Idempotent()
      read(): void {}

      @Sse('stream')
      @Idempotent()
      stream(): Observable<never> {
        return NEVER;
      }

      @Post('write')
      @Idempotent({ keyFrom: { param: '' }, lockTtl: -1, maxBodyBytes: 1.5 })
      write(): void {}

      @Idempotent()
      listen(): void {}
    }
    Reflect.defineMetadata('microservices:pattern', ['paid'], Faulty.prototype.listen);

    @Injectable()
    class Worker {
      @Idempotent()
      work(): void {}
    }

    const options = {
      pool: 'postgres://user:pa55word@db/shop',
      replayHeaders: ['Set-Cookie', 'Date', 'Access-Control-Allow-Origin', 'Connection'],
      fingerprintSecret: 'short',
      keyFormat: 'ulid',
      reaper: { every: 'never' },
      ttl: '1d',
    } as unknown as IdempotencyModuleOptions;

    const failure = await startApp(platform, { controllers: [Faulty], providers: [Worker], options, create: { abortOnError: false } }).then(
      (app) => app.close(),
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(IdempotencyOptionsError);
    const { faults, message } = failure as IdempotencyOptionsError;
    for (const name of [
      'pool',
      'replayHeaders',
      'fingerprintSecret',
      'keyFormat',
      'reaper.every',
      'ttl',
      'keyFrom',
      'lockTtl',
      'maxBodyBytes',
    ]) {
      expect(faults.map(({ option }) => option)).toContain(name);
    }
    for (const where of ['Faulty.read', 'Faulty.stream', 'Faulty.listen', 'Worker.work', 'Faulty.write']) expect(message).toContain(where);
    expect(message).toMatch(/Set-Cookie.*Date.*Access-Control-Allow-Origin.*Connection/);
    expect(faults.every(({ fault, remedy }) => fault !== '' && remedy !== '')).toBe(true);
    expect(message).not.toMatch(/pa55word|'short'/);
  });

  it('misses a connection and tells so beside the other faults', async () => {
    const options: IdempotencyModuleOptions = { poolSize: 0 };
    const failure = await startApp(platform, { options, create: { abortOnError: false } }).then(
      (app) => app.close(),
      (error: unknown) => error,
    );
    expect((failure as IdempotencyOptionsError).faults.map(({ option }) => option).sort()).toEqual(['dataSource', 'poolSize']);
  });

  it('names the migration when the tables are missing', async () => {
    const failure = await startApp(platform, {
      options: { pool: shared.database().pool, schema: 'nowhere' },
      create: { abortOnError: false },
    }).then(
      (app) => app.close(),
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: 'IDEMPOTENCY_SCHEMA_MISSING', message: expect.stringMatching(/nowhere.*migration/s) });
  });
});
