/** The handlers without anything that guards them: what every other figure is a ratio to. */
import { Body, Controller, Get, Headers, Module, Post } from '@nestjs/common';
import type { CallHandler, NestInterceptor } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import type { Observable } from 'rxjs';
import { serve } from './nest.js';
import { largeAnswer, openPool, placeOrder, placeOrderAtomically, placeOrderSlowly, quiet } from './shop.js';
import type { Order } from './shop.js';

const pool = openPool();

@Controller()
class Orders {
  @Post('orders')
  place(@Headers('idempotency-key') key: string, @Body() order: Order): Promise<object> {
    return placeOrder(pool, key, order);
  }

  @Post('orders-atomic')
  placeAtomically(@Headers('idempotency-key') key: string, @Body() order: Order): Promise<object> {
    return placeOrderAtomically(pool, key, order);
  }

  @Post('slow')
  placeSlowly(@Headers('idempotency-key') key: string, @Body() order: Order): Promise<object> {
    return placeOrderSlowly(pool, key, order);
  }

  @Post('large')
  large(): Promise<object> {
    return largeAnswer();
  }

  @Post('undecorated')
  undecorated(@Body() order: Order): object {
    return order;
  }

  @Post('unkeyed')
  unkeyed(@Body() order: Order): object {
    return order;
  }

  @Get('quiet')
  quiet(): Promise<object> {
    return quiet(pool);
  }
}

/** The least that an application with any global interceptor pays for every request. */
class EmptyInterceptor implements NestInterceptor {
  intercept(_context: unknown, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

const INTERCEPTED = process.env['BENCH_EMPTY_INTERCEPTOR'] === 'true';

@Module({ controllers: [Orders], providers: INTERCEPTED ? [{ provide: APP_INTERCEPTOR, useClass: EmptyInterceptor }] : [] })
class BareShop {}

await serve(BareShop, pool);
