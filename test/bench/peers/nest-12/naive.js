/**
 * What one writes first: look the key up, run the handler, keep its answer. Each step is a statement of
 * its own and nothing holds the key in between, so requests that come together all run. It is here
 * to show what a record in Postgres costs statement by statement, and is no advice.
 */
import { Body, Controller, Get, Headers, Module, Post, UseInterceptors } from '@nestjs/common';
import { mergeMap, of } from 'rxjs';

/** @typedef {import('../../apps/shop.js').Order} Order */

const SHOP = /** @type {string} */ (process.env['BENCH_SHOP']);
/** @type {typeof import('../../apps/shop.js')} */
const { openPool, placeOrder, placeOrderSlowly, quiet } = await import(SHOP);
/** @type {typeof import('../../apps/nest.js')} */
const { serve } = await import(new URL('./nest.js', SHOP).href);

const pool = openPool();

const FIND = { name: 'naive_find', text: 'select answer from naive_answers where key = $1' };
const KEEP = { name: 'naive_keep', text: 'insert into naive_answers (key, answer) values ($1, $2) on conflict do nothing' };

class NaiveInterceptor {
  /**
   * @param {import('@nestjs/common').ExecutionContext} context
   * @param {import('@nestjs/common').CallHandler} next
   */
  async intercept(context, next) {
    const key = context.switchToHttp().getRequest().headers['idempotency-key'];
    const { rows } = await pool.query({ ...FIND, values: [key] });
    if (rows.length > 0) return of(JSON.parse(rows[0].answer));
    return next.handle().pipe(
      mergeMap(async (answer) => {
        await pool.query({ ...KEEP, values: [key, JSON.stringify(answer)] });
        return answer;
      }),
    );
  }
}

class Orders {
  /** @param {string} key @param {Order} order */
  place(key, order) {
    return placeOrder(pool, key, order);
  }

  /** @param {string} key @param {Order} order */
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
  decorate(name, UseInterceptors(NaiveInterceptor));
}

/** @param {string} name @param {MethodDecorator} decorator */
function decorate(name, decorator) {
  decorator(Orders.prototype, name, /** @type {PropertyDescriptor} */ (Object.getOwnPropertyDescriptor(Orders.prototype, name)));
}

class NaiveShop {}
Module({ controllers: [Orders] })(NaiveShop);

await serve(NaiveShop, pool);
