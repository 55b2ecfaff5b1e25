/** What `@Res()` hands over on either platform, as far as the specs use it; and views for both. */
import type { INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';
import * as fastifyPlatform from '@nestjs/platform-fastify';
import type { Platform } from '../../support/app.js';

export interface PlatformResponse {
  status(code: number): PlatformResponse;
  header(name: string, value: string | readonly string[]): PlatformResponse;
  send(payload?: unknown): unknown;
  /** Express' order; see `redirect`. */
  redirect(...args: unknown[]): unknown;
  /** Fastify's. */
  readonly raw?: ServerResponse;
  hijack?(): unknown;
}

/** Multipart interceptors for Fastify and bodies from generators came with Nest 12. */
export const sinceNest12 = 'FileInterceptor' in fastifyPlatform;

/** The bare response, with Fastify told that it is answered by hand. */
export function bare(response: PlatformResponse): ServerResponse {
  response.hijack?.();
  return response.raw ?? (response as unknown as ServerResponse);
}

export function redirect(response: PlatformResponse, url: string, status: number): void {
  if (response.raw === undefined) response.redirect(status, url);
  else response.redirect(url, status);
}

let views = 0;

/** How many views either platform has made so far. */
export const madeViews = (): number => views;

/** hbs on Express. On Fastify a `reply.view` as its view plugin decorates it. */
export function withViews(app: INestApplication, platform: Platform): void {
  if (platform === 'express') {
    const express = app as NestExpressApplication;
    express.setBaseViewsDir(fileURLToPath(new URL('./views', import.meta.url)));
    express.setViewEngine('hbs');
    express.setLocal('counted', () => void views++);
    return;
  }
  const instance = app.getHttpAdapter().getInstance() as { decorateReply(name: string, value: unknown): void };
  instance.decorateReply('view', function (this: PlatformResponse, _view: string, { number, name }: { number: number; name: string }) {
    views++;
    return this.header('content-type', 'text/html; charset=utf-8').send(`<p>Receipt ${number} for ${name}</p>\n`);
  });
}
