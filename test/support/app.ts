/** A real application on a real socket, on either platform, with the module in it. */
import { Module } from '@nestjs/common';
import type { INestApplication, ModuleMetadata, NestApplicationOptions, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { IdempotencyModule } from '../../lib/index.js';
import type { IdempotencyModuleOptions } from '../../lib/index.js';

export const PLATFORMS = ['express', 'fastify'] as const;
export type Platform = (typeof PLATFORMS)[number];

export interface AppParts extends ModuleMetadata {
  readonly controllers?: Type[];
  readonly options?: IdempotencyModuleOptions;
  /** Before `init`: global interceptors, middleware, plugins. */
  readonly configure?: (app: INestApplication, platform: Platform) => void | Promise<void>;
  readonly create?: NestApplicationOptions;
  /** Options of its own for Fastify's adapter. */
  readonly fastify?: object;
}

export interface RunningApp {
  readonly app: INestApplication;
  /** Such as `http://127.0.0.1:41235`. */
  readonly url: string;
  post(path: string, options?: PostOptions): Promise<Response>;
  close(): Promise<void>;
}

export interface PostOptions {
  readonly key?: string;
  readonly body?: unknown;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export async function startApp(platform: Platform, parts: AppParts): Promise<RunningApp> {
  const { controllers = [], providers = [], imports = [], options, configure, create, fastify } = parts;
  @Module({ controllers, providers, imports: [...imports, IdempotencyModule.forRoot(options)] })
  class TestModule {}
  // Nest 11 hears its own option of that name for Express only.
  const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter({ forceCloseConnections: true, ...fastify });
  const app = await NestFactory.create<NestFastifyApplication>(TestModule, adapter as FastifyAdapter, {
    logger: false,
    forceCloseConnections: true,
    ...create,
  });
  await configure?.(app, platform);
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as { port: number };
  const url = `http://127.0.0.1:${port}`;
  return { app, url, post: (path, sent) => post(`${url}${path}`, sent), close: () => app.close() };
}

function post(url: string, { key, body = {}, method = 'POST', headers = {}, signal }: PostOptions = {}): Promise<Response> {
  return fetch(url, {
    method,
    headers: {
      ...(typeof body === 'string' || body instanceof Uint8Array ? {} : { 'content-type': 'application/json' }),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...headers,
    },
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}
