// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/**
 * The shop's routes on the newest Nest that the guards here support, on the platform that the bench
 * names. Decorators are called by hand, so that it runs as it stands.
 */
import 'reflect-metadata';
import { Body, Controller, Get, Headers, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';

const { obeyBench, openPool, placeOrder, placeOrderSlowly, quiet } = await import(process.env.BENCH_SHOP);

const pool = openPool();

class Orders {
  place(key, order) {
    return placeOrder(pool, key, order);
  }

  placeSlowly(key, order) {
    return placeOrderSlowly(pool, key, order);
  }

  quiet() {
    return quiet(pool);
  }
}

Controller()(Orders);
decorate('quiet', Get('quiet'));
for (const [name, path] of Object.entries({ place: 'orders', placeSlowly: 'slow' })) {
  Headers('idempotency-key')(Orders.prototype, name, 0);
  Body()(Orders.prototype, name, 1);
  decorate(name, Post(path));
}

function decorate(name, decorator) {
  decorator(Orders.prototype, name, Object.getOwnPropertyDescriptor(Orders.prototype, name));
}

/** `guard` makes the decorator of each handler that places orders, `imports` are the modules that it needs. */
export async function serveShop({ guard, imports = [] } = {}) {
  if (guard) for (const name of ['place', 'placeSlowly']) decorate(name, guard());

  class Shop {}
  Module({ controllers: [Orders], imports })(Shop);

  const adapter = process.env.BENCH_PLATFORM === 'express' ? new ExpressAdapter() : new FastifyAdapter({ forceCloseConnections: true });
  const app = await NestFactory.create(Shop, adapter, { logger: false, forceCloseConnections: true });
  await app.listen(0, '127.0.0.1');
  obeyBench(app.getHttpServer().address().port, async () => {
    await app.close();
    await pool.end();
  });
}
