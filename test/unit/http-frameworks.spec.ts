/** The tap and the replay beneath real applications: what compresses, streams and answers twice must find nothing odd. */
import 'reflect-metadata';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import compress from '@fastify/compress';
import {
  Controller,
  Header,
  HttpException,
  Injectable,
  Module,
  Post,
  Redirect,
  Res,
  StreamableFile,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import compression from 'compression';
import { finalize, map, of, type Observable } from 'rxjs';
import { systemClock } from '../../lib/contract/clock.js';
import type { RecordedResponse } from '../../lib/contract/recorded-response.js';
import { toRecordedResponse } from '../../lib/http/recorded-headers.js';
import { replayResponse } from '../../lib/http/replay.js';
import { readExchange } from '../../lib/http/request-facts.js';
import { tapResponse, type HeldAnswer, type Instead, type ResponseTap } from '../../lib/http/response-tap.js';
import { streamOf } from '../../lib/nest/streams.js';
import { deferred, NotingHooks, open, RawServer, send, turns, type Answer } from './support/raw-http.js';

const LONG = 'long enough to be worth compressing. '.repeat(200);
const KEPT = new Set(['content-type', 'location', 'etag', 'content-disposition']);

/** What the scene of one test is made of; handlers and interceptor find it here. */
const stage = {
  hooks: new NotingHooks(),
  maxBodyBytes: 1024 * 1024,
  replay: undefined as RecordedResponse | undefined,
  begun: deferred<{ raw: ServerResponse; socket: Socket }>(),
  go: deferred(),
  tap: undefined as ResponseTap | undefined,
  source: undefined as Readable | undefined,
  outerFinished: 0,
};

@Injectable()
class Taps implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const http = context.switchToHttp();
    const { response } = readExchange(http.getRequest(), http.getResponse());
    if (stage.replay) {
      replayResponse(response, stage.replay, { 'Idempotent-Replayed': 'true' });
      return of(undefined);
    }
    const options = { maxBodyBytes: stage.maxBodyBytes, patienceMs: 60_000, pendingHeaders: response.pendingHeaders(), clock: systemClock };
    const tapped = tapResponse(response.raw, options, stage.hooks);
    stage.tap = tapped;
    stage.begun.resolve({ raw: response.raw, socket: response.raw.req.socket });
    return next.handle().pipe(
      map((value: unknown) => {
        const stream = streamOf(value);
        if (stream) tapped.shield(stream);
        return value;
      }),
    );
  }
}

@Injectable()
class Wraps implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      map((value: unknown) => (value instanceof StreamableFile ? value : { data: value, padding: LONG })),
      finalize(() => (stage.outerFinished += 1)),
    );
  }
}

@Controller()
@UseInterceptors(Taps)
class Shop {
  @Post('json') json() {
    return { text: LONG };
  }

  @Post('text') @Header('Content-Type', 'text/plain; charset=utf-8') text() {
    return LONG;
  }

  @Post('refused') refused() {
    throw new HttpException({ statusCode: 422, message: LONG }, 422);
  }

  @Post('redirect') @Redirect('/elsewhere', 303) redirect() {
    return undefined;
  }

  @Post('file') @Header('Content-Disposition', 'attachment') file() {
    return new StreamableFile(Readable.from([LONG, LONG]), { type: 'text/plain' });
  }

  @Post('failing-file') failingFile() {
    const source = new Readable({ read: () => undefined });
    source.push('half');
    setImmediate(() => setImmediate(() => setImmediate(() => source.destroy(new Error('disk gone')))));
    return new StreamableFile(source, { type: 'application/octet-stream' });
  }

  @Post('slow-file') async slowFile() {
    await stage.go.promise;
    return new StreamableFile(Readable.from([LONG, LONG]), { type: 'application/octet-stream' });
  }

  @Post('open-file') openFile() {
    stage.source = new Readable({ read: () => undefined });
    stage.source.push('first,');
    return new StreamableFile(stage.source, { type: 'application/octet-stream' });
  }

  @Post('objects') objects() {
    async function* chunks() {
      yield LONG;
      yield LONG;
    }
    return chunks();
  }

  @Post('big') big() {
    return new StreamableFile(Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(64 * 1024, 'b'))), { type: 'text/plain' });
  }

  @Post('twice') twice(@Res() response: { send(value: unknown): unknown; raw?: ServerResponse }) {
    response.send({ once: true });
    throw new Error('after the answer');
  }
}

@Controller('outside')
@UseInterceptors(Wraps, Taps)
class Outside {
  @Post() @Header('Content-Type', 'text/csv') @Header('ETag', '"mine"') run() {
    return 'value';
  }
}

@Module({ controllers: [Shop, Outside] })
class ShopModule {}

const warnings: unknown[] = [];

async function startExpress(compressed: boolean): Promise<INestApplication> {
  const app = await NestFactory.create(ShopModule, new ExpressAdapter(), { logger: false });
  app.use((_request: unknown, response: ServerResponse, next: () => void) => {
    response.setHeader('X-Request-Id', 'r1');
    next();
  });
  if (compressed) app.use(compression());
  return app;
}

async function startFastify(compressed: boolean): Promise<INestApplication> {
  const note = (...args: unknown[]) => void warnings.push(args);
  const logger = {
    level: 'warn',
    fatal: note,
    error: note,
    warn: note,
    info: () => undefined,
    debug: () => undefined,
    trace: () => undefined,
    silent: () => undefined,
  };
  const adapter = new FastifyAdapter({ loggerInstance: { ...logger, child: () => ({ ...logger, child: () => logger }) } as never });
  const app = await NestFactory.create<NestFastifyApplication>(ShopModule, adapter, { logger: false });
  if (compressed) await app.register(compress as never);
  app
    .getHttpAdapter()
    .getInstance()
    .addHook('onRequest', (_request, reply, done) => {
      reply.header('X-Request-Id', 'r1');
      done();
    });
  return app;
}

const applications = [
  ['Express', startExpress, false],
  ['Express with compression', startExpress, true],
  ['Fastify', startFastify, false],
  ['Fastify with compression', startFastify, true],
] as const;

describe.each(applications)('beneath %s', (name, start, compressed) => {
  let app: INestApplication;
  let port: number;
  const gzip = { 'accept-encoding': 'gzip' };

  beforeAll(async () => {
    app = await start(compressed);
    await app.listen(0, '127.0.0.1');
    port = (app.getHttpServer() as { address(): AddressInfo }).address().port;
  });

  afterAll(() => app.close());

  beforeEach(() => {
    warnings.length = 0;
    Object.assign(stage, {
      hooks: new NotingHooks(),
      maxBodyBytes: 1024 * 1024,
      replay: undefined,
      begun: deferred(),
      go: deferred(),
      source: undefined,
      outerFinished: 0,
    });
  });

  const post = (path: string, headers: Record<string, string> = {}): Promise<Answer> => send(port, { path: `/${path}`, headers });
  const plain = (answer: Answer): string =>
    answer.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(answer.body).toString() : answer.text;
  const record = async (): Promise<RecordedResponse> => {
    const recorded = await toRecordedResponse(await stage.hooks.answer.promise, KEPT, 1024 * 1024);
    if (recorded === undefined) throw new Error('too large');
    return recorded;
  };

  it.each(['json', 'text', 'refused', 'redirect', 'file', 'objects'])('POST /%s is the same held, recorded and replayed', async (route) => {
    stage.go.resolve();
    const first = await post(route, gzip);
    const recorded = await record();
    expect(stage.hooks.calls).toEqual(['held']);
    expect(recorded.status).toBe(first.status);
    expect(recorded.body.toString()).toBe(plain(first));
    expect(first.headers['x-request-id']).toBe('r1');
    if (compressed && recorded.body.length > 1024) expect(first.headers['content-encoding']).toBe('gzip');

    stage.replay = recorded;
    const again = await post(route);
    expect(again.headers['content-encoding']).toBeUndefined();
    expect(again).toMatchObject({ status: first.status, text: plain(first) });
    expect(again.headers).toMatchObject({ 'idempotent-replayed': 'true', 'x-request-id': 'r1' });
    for (const field of KEPT) expect(again.headers[field]).toBe(first.headers[field]);
    expect(warnings).toEqual([]);
  });

  it('replays in the coding that this client accepts, where the framework codes below us', async () => {
    stage.replay = { status: 200, headers: [['content-type', 'text/plain']], body: Buffer.from(LONG) };
    const answer = await post('json', gzip);
    expect(answer.headers['content-encoding']).toBe(name === 'Express with compression' ? 'gzip' : undefined);
    expect(plain(answer)).toBe(LONG);
  });

  it('does not let an outer mapper or this request’s own headers into a replay', async () => {
    stage.replay = { status: 201, headers: [['content-type', 'application/json']], body: Buffer.from('{"first":1}') };
    const answer = await post('outside');
    await turns();
    expect(answer).toMatchObject({ status: 201, text: '{"first":1}' });
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'content-length': '11' });
    expect(answer.headers.etag).toBeUndefined();
    expect(stage.outerFinished).toBe(1);
    expect(warnings).toEqual([]);
  });

  it('replays an empty answer, and lists of header values', async () => {
    stage.replay = { status: 204, headers: [['link', ['<a>', '<b>']]], body: Buffer.alloc(0) };
    const answer = await post('json');
    expect(answer).toMatchObject({ status: 204, text: '' });
    expect(answer.rawHeaders.filter((value) => value === '<a>' || value === '<b>')).toEqual(['<a>', '<b>']);
    expect(answer.headers['content-length']).toBeUndefined();
  });

  it('answers once when the handler throws after its answer', async () => {
    expect(await post('twice')).toMatchObject({ status: 201, text: '{"once":true}' });
    expect(stage.hooks.calls).toEqual(['held']);
  });

  it('sends another answer instead, without the handler’s headers', async () => {
    const instead: Instead = { status: 409, headers: [['content-type', 'application/problem+json']], body: Buffer.from('{"code":"X"}') };
    stage.hooks = new NotingHooks({ held: () => Promise.resolve(instead) });
    const answer = await post('file');
    expect(answer).toMatchObject({ status: 409, text: '{"code":"X"}' });
    expect(answer.headers).toMatchObject({ 'content-type': 'application/problem+json', 'x-request-id': 'r1' });
    expect(answer.headers['content-disposition']).toBeUndefined();
  });

  it('lets a large stream flow after the hook, whole', async () => {
    stage.maxBodyBytes = 100_000;
    const answer = await post('big', compressed && name.startsWith('Fastify') ? {} : gzip);
    expect(plain(answer)).toBe('b'.repeat(64 * 64 * 1024));
    expect(stage.hooks.calls).toEqual(['unholdable', 'flowed']);
  });

  it('has no answer when the stream of a file fails half-way', async () => {
    const request = open(port, { path: '/failing-file' });
    await once(request, 'error');
    await stage.hooks.noAnswer.promise;
    expect(stage.hooks.calls).toEqual(['unanswered']);
  });

  describe('with the client gone', () => {
    const hangUp = async (path: string): Promise<HeldAnswer> => {
      const request = open(port, { path: `/${path}` });
      const { socket } = await stage.begun.promise;
      const closed = new Promise((resolve) => socket.once('close', resolve));
      await turns();
      request.destroy();
      await closed;
      await turns();
      stage.go.resolve();
      stage.source?.push('second');
      stage.source?.push(null);
      return stage.hooks.answer.promise;
    };

    it('holds the whole of a file whose sending had not begun', async () => {
      expect((await hangUp('slow-file')).body.toString()).toBe(LONG + LONG);
    });

    it('holds the whole of a file that was being read', async () => {
      expect(await hangUp('open-file')).toMatchObject({ truncated: false, body: Buffer.from('first,second') });
      await turns();
      expect(stage.source?.destroyed).toBe(true);
    });

    it('replays to nobody without harm', async () => {
      stage.replay = { status: 200, headers: [], body: Buffer.from('x') };
      const request = open(port, { path: '/json' });
      request.destroy();
      await turns();
      expect(warnings).toEqual([]);
    });
  });
});

describe('a response that has closed', () => {
  it('takes a replay without a throw', async () => {
    const done = deferred();
    const server = await RawServer.start((_request, response) => {
      response.once('close', () => {
        const nothing = (): void => undefined;
        const door = {
          raw: response,
          pendingHeaders: () => ({}),
          setHeader: nothing,
          remember: () => nothing,
          muteViews: nothing,
          divert: nothing,
          notModified: nothing,
        };
        replayResponse(door, { status: 200, headers: [], body: Buffer.from('x') }, {});
        done.resolve();
      });
      request.destroy();
    });
    const request = open(server.port);
    await done.promise;
    await server.stop();
  });
});
