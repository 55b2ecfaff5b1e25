// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/**
 * The idempotency utility of AWS Lambda Powertools, outside of Lambda: it wraps a function, and what
 * becomes of the result and of its errors in HTTP is the application's business. In Lambda the platform
 * tells how long a call may still take, and for so long it counts as in progress; here a stand-in says
 * thirty seconds.
 */
import {
  IdempotencyAlreadyInProgressError,
  IdempotencyConfig,
  IdempotencyValidationError,
  makeIdempotent,
} from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import { createClient } from '@redis/client';
import { serveShop } from './application.js';
import { MemoryPersistenceLayer } from './memory-persistence-layer.js';

const STORAGES = {
  memory: () => ({
    persistenceStore: new MemoryPersistenceLayer(),
    settings: { eventKeyJmesPath: 'key', payloadValidationJmesPath: 'order' },
  }),
  // Orders are not compared: this layer does not keep what for, so that each replay would be refused that the cache in the process has not.
  redis: async () => ({
    persistenceStore: new CachePersistenceLayer({ client: await createClient({ url: process.env.BENCH_REDIS_URL }).connect() }),
    settings: { eventKeyJmesPath: 'key', useLocalCache: true },
  }),
};

const { persistenceStore, settings } = await STORAGES[process.env.BENCH_STORAGE]();
const config = new IdempotencyConfig(settings);
config.registerLambdaContext({ getRemainingTimeInMillis: () => 30_000 });

const REFUSALS = [
  [IdempotencyAlreadyInProgressError, 409],
  [IdempotencyValidationError, 422],
];

function handlerFor(work) {
  const workOnce = makeIdempotent(({ key, order }) => work(key, order), { persistenceStore, config });
  return async (req, res, next) => {
    try {
      res.status(201).json(await workOnce({ key: req.get('idempotency-key'), order: req.body }));
    } catch (error) {
      const [, status] = REFUSALS.find(([refusal]) => error instanceof refusal) ?? [];
      if (status === undefined) next(error);
      else res.status(status).json({ message: error.name });
    }
  };
}

await serveShop({ handlerFor });
