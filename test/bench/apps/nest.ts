/** Starts a Nest application as the bench wants it: the platform it names, no logging, any port. */
import { NestFactory } from '@nestjs/core';
import type { NestApplicationOptions, Type } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Pool } from 'pg';
import type { Platform } from '../app-protocol.js';
import { obeyBench } from './shop.js';

const OPTIONS: NestApplicationOptions = { logger: false, forceCloseConnections: true };

export async function serve(module: Type, pool: Pool): Promise<void> {
  const platform = process.env['BENCH_PLATFORM'] as Platform;
  const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter({ forceCloseConnections: true });
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter as FastifyAdapter, OPTIONS);
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as { port: number };
  obeyBench(port, async () => {
    await app.close();
    await pool.end();
  });
}
