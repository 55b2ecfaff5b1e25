/**
 * The same handlers, guarded. Their effects are in the database that has the records, so no claim need
 * wait for the disk; a client's key is everybody's, since there are no users. All else is as it comes.
 */
import { Body, Controller, Get, Headers, Module, Post } from '@nestjs/common';
import { CurrentExecution, IdempotencyModule, Idempotent } from '../../../lib/index.js';
import type { IdempotencyModuleOptions, IdempotentExecution } from '../../../lib/index.js';
import { serve } from './nest.js';
import { largeAnswer, openPool, placeOrder, placeOrderSlowly, quiet } from './shop.js';
import type { Order } from './shop.js';

const pool = openPool();

@Controller()
class Orders {
  @Idempotent({ durableClaim: false })
  @Post('orders')
  place(@Headers('idempotency-key') key: string, @Body() order: Order): Promise<object> {
    return placeOrder(pool, key, order);
  }

  @Idempotent({ atomic: true })
  @Post('orders-atomic')
  placeAtomically(@Body() order: Order, @CurrentExecution() { key, client }: IdempotentExecution): Promise<object> {
    return placeOrder(client, key, order);
  }

  @Idempotent({ durableClaim: false })
  @Post('slow')
  placeSlowly(@Headers('idempotency-key') key: string, @Body() order: Order): Promise<object> {
    return placeOrderSlowly(pool, key, order);
  }

  @Idempotent({ durableClaim: false })
  @Post('large')
  large(): Promise<object> {
    return largeAnswer();
  }

  @Post('undecorated')
  undecorated(@Body() order: Order): object {
    return order;
  }

  @Idempotent({ durableClaim: false })
  @Post('unkeyed')
  unkeyed(@Body() order: Order): object {
    return order;
  }

  @Get('quiet')
  quiet(): Promise<object> {
    return quiet(pool);
  }
}

/** What a workload wants otherwise than it comes, as JSON. */
const wanted = JSON.parse(process.env['BENCH_OPTIONS'] ?? '{}') as IdempotencyModuleOptions;

@Module({ imports: [IdempotencyModule.forRoot({ pool, scope: false, ...wanted })], controllers: [Orders] })
class GuardedShop {}

await serve(GuardedShop, pool);
