// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/** @node-idempotency/nestjs as its manual has it: the module with one of its two storages, the decorator on the handlers. */
import { Idempotent, NodeIdempotencyModule, StorageAdapterEnum } from '@node-idempotency/nestjs';
import { serveShop } from './application.js';

const STORAGES = {
  memory: { adapter: StorageAdapterEnum.memory },
  redis: { adapter: StorageAdapterEnum.redis, options: { url: process.env.BENCH_REDIS_URL } },
};

await serveShop({
  imports: [NodeIdempotencyModule.forRootAsync({ storage: STORAGES[process.env.BENCH_STORAGE] })],
  guard: Idempotent,
});
