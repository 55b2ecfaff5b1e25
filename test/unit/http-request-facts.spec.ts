/** One table over both frameworks: behind the door they must not be told apart. */
import 'reflect-metadata';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  All,
  Body,
  Controller,
  Injectable,
  Module,
  Param,
  UseGuards,
  UseInterceptors,
  VersioningType,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import * as expressPlatform from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import * as fastifyPlatform from '@nestjs/platform-fastify';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Observable } from 'rxjs';
import { readExchange, type Exchange, type FilePart, type RequestFacts } from '../../lib/http/request-facts.js';
import { RawServer, send } from './support/raw-http.js';

let uploads: string;
let seen: Record<string, unknown> = {};
let content: Buffer | undefined;

function facts({ request }: Exchange): Record<string, unknown> {
  const names = [
    'method',
    'path',
    'query',
    'routePattern',
    'params',
    'contentType',
    'hasContent',
    'body',
    'rawBody',
    'files',
    'user',
  ] as const;
  const { header } = request as RequestFacts;
  return { ...Object.fromEntries(names.map((name) => [name, request[name]])), key: header.call(request, 'idempotency-key') };
}

@Injectable()
class Reads implements NestInterceptor {
  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const http = context.switchToHttp();
    const exchange = readExchange(http.getRequest(), http.getResponse());
    seen = facts(exchange);
    const [file] = exchange.request.files ?? [];
    if (file?.content && 'path' in file.content) content = await readFile(file.content.path);
    exchange.response.setHeader('X-Door', 'open');
    seen.pending = exchange.response.pendingHeaders()['x-door'] ?? exchange.response.raw.getHeader('x-door');
    return next.handle();
  }
}

@Injectable()
class Caller implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ user: unknown }>().user = { id: 7 };
    return true;
  }
}

type Uploading = Pick<typeof expressPlatform, 'FileInterceptor' | 'FilesInterceptor' | 'FileFieldsInterceptor' | 'AnyFilesInterceptor'>;

/** Each platform has file interceptors of its own. */
function shop({ FileInterceptor, FileFieldsInterceptor, AnyFilesInterceptor }: Uploading) {
  @Controller({ path: 'orders', version: '1' })
  class Orders {
    @All(':id/pay') @UseGuards(Caller) @UseInterceptors(Reads) pay(@Param('id') id: string, @Body() _body: unknown) {
      return { id };
    }

    @All('file') @UseInterceptors(FileInterceptor('f'), Reads) file() {
      return 'ok';
    }

    @All('fields') @UseInterceptors(FileFieldsInterceptor([{ name: 'a' }, { name: 'b' }]), Reads) fields() {
      return 'ok';
    }

    @All('any') @UseInterceptors(AnyFilesInterceptor(), Reads) any() {
      return 'ok';
    }

    @All('disk') @UseInterceptors(FileInterceptor('f', { dest: uploads }), Reads) disk() {
      return 'ok';
    }

    @All('unparsed') @UseInterceptors(Reads, FileInterceptor('f')) unparsed() {
      return 'ok';
    }
  }

  @Module({ controllers: [Orders] })
  class ShopModule {}
  return ShopModule;
}

const platforms = [
  ['Express', () => new expressPlatform.ExpressAdapter(), expressPlatform as Uploading],
  ['Fastify', () => new FastifyAdapter(), fastifyPlatform as unknown as Uploading],
] as const;

describe.each(platforms)('a request of %s', (_name, adapter, uploading) => {
  let port: number;
  let close: () => Promise<void>;

  beforeAll(async () => {
    uploads = await mkdtemp(join(tmpdir(), 'uploads-'));
    const app = await NestFactory.create(shop(uploading), adapter(), { logger: false, rawBody: true });
    app.setGlobalPrefix('api');
    app.enableVersioning({ type: VersioningType.URI });
    await app.listen(0, '127.0.0.1');
    port = (app.getHttpServer() as { address(): AddressInfo }).address().port;
    close = () => app.close();
  });

  afterAll(async () => {
    await close();
    await rm(uploads, { recursive: true });
  });

  const form = (parts: readonly (readonly [string, string, string?])[]) => {
    const data = new FormData();
    for (const [name, text, fileName] of parts) {
      if (fileName === undefined) data.append(name, text);
      else data.append(name, new Blob([text], { type: 'text/plain' }), fileName);
    }
    return data;
  };
  const upload = (path: string, parts: Parameters<typeof form>[0]) =>
    fetch(`http://127.0.0.1:${port}/api/v1/orders/${path}`, { method: 'POST', body: form(parts) });

  it('tells what was asked for', async () => {
    const json = '{"amount": 5}';
    const headers = { 'content-type': 'application/json', 'Idempotency-Key': ['k1', 'k2'] };
    expect(await send(port, { path: '/api/v1/orders/a%20b/pay?x=1&y=%3F', headers }, json)).toMatchObject({
      status: 200,
      headers: { 'x-door': 'open' },
    });
    expect(seen).toEqual({
      method: 'POST',
      path: '/api/v1/orders/a%20b/pay',
      query: 'x=1&y=%3F',
      routePattern: '/api/v1/orders/:id/pay',
      params: expect.objectContaining({ id: 'a b' }),
      contentType: 'application/json',
      hasContent: true,
      body: { amount: 5 },
      rawBody: Buffer.from(json),
      files: undefined,
      user: { id: 7 },
      key: ['k1', 'k2'],
      pending: 'open',
    });
  });

  it('has no content, no body and no key where there is none', async () => {
    await send(port, { path: '/api/v1/orders/1/pay', method: 'PUT' });
    expect(seen).toMatchObject({
      method: 'PUT',
      query: '',
      contentType: undefined,
      hasContent: false,
      body: undefined,
      rawBody: undefined,
      key: [],
    });
  });

  it.each<[string, readonly (readonly [string, string, string?])[], readonly Partial<FilePart>[]]>([
    [
      'file',
      [
        ['note', 'n'],
        ['f', 'one', '1.txt'],
      ],
      [{ field: 'f', fileName: '1.txt', mediaType: 'text/plain', size: 3, content: Buffer.from('one') }],
    ],
    [
      'fields',
      [
        ['a', 'one', '1.txt'],
        ['b', 'two', '2.txt'],
      ],
      [
        { field: 'a', fileName: '1.txt' },
        { field: 'b', fileName: '2.txt' },
      ],
    ],
    [
      'any',
      [
        ['x', 'one', '1.txt'],
        ['x', 'two', '2.txt'],
      ],
      [
        { field: 'x', fileName: '1.txt' },
        { field: 'x', fileName: '2.txt' },
      ],
    ],
    ['any', [['note', 'n']], []],
  ])('lists the parts that the interceptor for %s has stored', async (path, parts, files) => {
    expect((await upload(path, parts)).status).toBe(200);
    expect(seen.files).toEqual(files.map((file) => expect.objectContaining(file)));
    if (parts[0]?.[0] === 'note') expect(seen.body).toEqual(expect.objectContaining({ note: 'n' }));
  });

  it('tells where a part on disk is', async () => {
    expect((await upload('disk', [['f', 'on disk', 'd.txt']])).status).toBe(200);
    expect(content?.toString()).toBe('on disk');
  });

  it('has neither parts nor body before an interceptor has parsed them', async () => {
    await upload('unparsed', [['f', 'one', '1.txt']]);
    expect(seen).toMatchObject({ files: undefined, body: undefined, hasContent: true });
  });
});

describe('a request of Express 4', () => {
  it('has no body while nobody has read the message, though it shows an empty object', async () => {
    const bodies: unknown[] = [];
    const listener: RequestListener = (request, response) => {
      Object.assign(request, { originalUrl: request.url, body: {} });
      bodies.push(readExchange(request, response).request.body);
      request.resume().once('end', () => {
        bodies.push(readExchange(request, response).request.body);
        response.end();
      });
    };
    const server = await RawServer.start(listener);
    await send(server.port, {}, '{}');
    await server.stop();
    expect(bodies).toEqual([undefined, {}]);
  });
});
