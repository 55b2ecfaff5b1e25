// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/** The shop's routes on Express. What stands in front of its handlers, or around them, is handed in. */
import { once } from 'node:events';
import express from 'express';

const { obeyBench, openPool, placeOrder, placeOrderSlowly, quiet } = await import(process.env.BENCH_SHOP);

const pool = openPool();

const HANDLERS = {
  '/orders': (key, order) => placeOrder(pool, key, order),
  '/slow': (key, order) => placeOrderSlowly(pool, key, order),
};

/**
 * `handlerFor` makes the route's handler from what is to be done for a key and an order; `middleware`
 * comes before it, and `onError` answers what has failed.
 */
export async function serveShop({ handlerFor = answering, middleware = [], onError } = {}) {
  const app = express();
  app.use(express.json());
  for (const [path, work] of Object.entries(HANDLERS)) app.post(path, middleware, handlerFor(work));
  app.get('/quiet', async (_req, res) => res.json(await quiet(pool)));
  if (onError) app.use(onError);
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  obeyBench(server.address().port, async () => {
    server.close();
    server.closeAllConnections();
    await pool.end();
  });
}

/** A handler as anybody would write it. */
function answering(work) {
  return async (req, res, next) => {
    try {
      res.status(201).json(await work(req.get('idempotency-key'), req.body));
    } catch (error) {
      next(error);
    }
  };
}
