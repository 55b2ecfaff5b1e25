import { beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Injectable, Post, Res, StreamableFile, UseInterceptors } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { Readable } from 'node:stream';
import { finalize, map, tap } from 'rxjs';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import type { PlatformResponse } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();

/** Wraps what passes and stamps it, differently each time it is asked. */
@Injectable()
class Envelope implements NestInterceptor {
  static seen = 0;
  static finished = 0;

  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const stamp = ++Envelope.seen;
    return next.handle().pipe(
      map((data: unknown) => ({ data, stamp, at: process.hrtime.bigint().toString() })),
      finalize(() => (Envelope.finished += 1)),
    );
  }
}

/** Looks at values without changing them, as a logger does. */
class Watcher implements NestInterceptor {
  readonly ends: string[] = [];

  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(tap({ complete: () => this.ends.push('complete'), error: () => this.ends.push('error') }));
  }
}

@Controller()
@Idempotent()
class Mapped {
  @Post('object')
  object(): object {
    return { run: ledger.run('object') };
  }

  @Post('nothing')
  nothing(): void {
    ledger.run('nothing');
  }

  @Post('inner')
  @UseInterceptors(Envelope)
  inner(): object {
    return { run: ledger.run('inner') };
  }

  @Post('own')
  own(@Res() response: PlatformResponse): void {
    response.status(201).send({ run: ledger.run('own') });
  }
}

@Controller()
@Idempotent()
class Streamed {
  @Post('stream')
  stream(): StreamableFile {
    return new StreamableFile(Readable.from([Buffer.from(`run ${ledger.run('stream')}`)]));
  }
}

describe.each(PLATFORMS)('with other interceptors on %s', (platform) => {
  const arrangements: [where: string, parts: AppParts][] = [
    ['around the module’s (APP_INTERCEPTOR)', { controllers: [Mapped], providers: [{ provide: APP_INTERCEPTOR, useClass: Envelope }] }],
    [
      'within the module’s (useGlobalInterceptors)',
      { controllers: [Mapped], configure: (nest) => void nest.useGlobalInterceptors(new Envelope()) },
    ],
    [
      'on both sides',
      {
        controllers: [Mapped],
        providers: [{ provide: APP_INTERCEPTOR, useClass: Envelope }],
        configure: (nest) => void nest.useGlobalInterceptors(new Envelope()),
      },
    ],
  ];

  describe.each(arrangements)('a mapper %s', (_where, parts) => {
    let app: RunningApp;
    beforeAll(async () => {
      app = await shared.start(platform, parts);
    });

    it.each(['object', 'nothing', 'inner'])('maps the first answer (%s), and its bytes are what is replayed', async (what) => {
      const sent = { key: newKey() };
      const before = ledger.runs(what);
      const [first, second, third] = [
        await send(`${app.url}/${what}`, sent),
        await send(`${app.url}/${what}`, sent),
        await send(`${app.url}/${what}`, sent),
      ];
      expect(json(first)).toMatchObject({ stamp: expect.any(Number), at: expect.any(String) });
      expect([essence(second), essence(third)]).toEqual([essence(first), essence(first)]);
      expect([isReplay(first), isReplay(second), ledger.runs(what)]).toEqual([false, true, before + 1]);
    });

    it('does not disturb an answer by hand', async () => {
      const sent = { key: newKey() };
      const [first, second] = [await send(`${app.url}/own`, sent), await send(`${app.url}/own`, sent)];
      expect(json(first)).toEqual({ run: ledger.total });
      expect(essence(second)).toEqual(essence(first));
    });

    it('is finished for each request, replayed or not', async () => {
      const open = (): number => Envelope.seen - Envelope.finished;
      const before = open();
      const sent = { key: newKey() };
      await send(`${app.url}/object`, sent);
      await send(`${app.url}/object`, sent);
      expect(open()).toBe(before);
    });
  });

  it('a mapper around the module’s that counts on a value does not break a replay, which has none', async () => {
    const counting: NestInterceptor = {
      intercept: (_context, next) => next.handle().pipe(map((data: { run: number }) => ({ doubled: data.run * 2 }))),
    };
    await shared.within(
      platform,
      { controllers: [Mapped], providers: [{ provide: APP_INTERCEPTOR, useValue: counting }] },
      async ({ url }) => {
        const sent = { key: newKey() };
        const [first, second] = [await send(`${url}/object`, sent), await send(`${url}/object`, sent)];
        expect(json(first)).toEqual({ doubled: ledger.total * 2 });
        expect([isReplay(second), essence(second)]).toEqual([true, essence(first)]);
      },
    );
  });

  it('a watcher around the module’s sees each request complete', async () => {
    const watcher = new Watcher();
    await shared.within(
      platform,
      { controllers: [Mapped], providers: [{ provide: APP_INTERCEPTOR, useValue: watcher }] },
      async ({ url }) => {
        const sent = { key: newKey() };
        await send(`${url}/object`, sent);
        expect(isReplay(await send(`${url}/object`, sent))).toBe(true);
        expect(watcher.ends).toEqual(['complete', 'complete']);
      },
    );
  });

  it('a watcher on either side leaves streams whole', async () => {
    const parts: AppParts = {
      controllers: [Streamed],
      providers: [{ provide: APP_INTERCEPTOR, useValue: new Watcher() }],
      configure: (nest) => void nest.useGlobalInterceptors(new Watcher()),
    };
    await shared.within(platform, parts, async ({ url }) => {
      const sent = { key: newKey() };
      const [first, second]: Answer[] = [await send(`${url}/stream`, sent), await send(`${url}/stream`, sent)];
      expect(first?.text).toBe(`run ${ledger.total}`);
      expect(essence(second as Answer)).toEqual(essence(first as Answer));
    });
  });
});
