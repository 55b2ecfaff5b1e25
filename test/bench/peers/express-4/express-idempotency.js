// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/**
 * express-idempotency as its manual has it, with its adapter for Redis. What it keeps by default, in
 * memory, is searched from end to end for every request, and its manual says that it is not for production.
 */
import { getSharedIdempotencyService, idempotency } from 'express-idempotency';
import adapters from 'express-idempotency-redis-adapter';
import { serveShop } from './application.js';

const dataAdapter = new adapters.default({ connectionConfig: { url: process.env.BENCH_REDIS_URL } });
await dataAdapter.connect();

/** A request that was answered already comes by, too; and a failure has to be reported, or its key stays in progress. */
function handlerFor(work) {
  const service = getSharedIdempotencyService();
  return async (req, res, next) => {
    if (service.isHit(req)) return;
    try {
      res.status(201).json(await work(req.get('idempotency-key'), req.body));
    } catch (error) {
      await service.reportError(req);
      next(error);
    }
  };
}

await serveShop({
  middleware: [idempotency({ dataAdapter })],
  handlerFor,
  // It sets the status of its refusals and leaves their answer to the application, whose default would log each with its stack.
  onError: (error, _req, res, next) => (res.statusCode < 400 ? next(error) : res.json({ message: error.message })),
});
