/**
 * What the bench asks of an application that it measures, whoever has written it: a child process
 * (`fork`) that listens on 127.0.0.1, any port, tells the port, tells what it has used when it is
 * asked, and ends when it is told to, or when the bench is gone. It knows no workload.
 *
 * Every application answers `POST /orders` with 201: a JSON body of about 100 bytes, one INSERT into
 * `bench_orders` with the key in it, 300 bytes of JSON. `apps/shop.ts` has all of that but the
 * framework; other routes are asked of an application only if its contestant lists them.
 */

/** What an application is told by its environment. */
export interface AppEnvironment {
  /** A database of its own. `bench_orders` is in it, and what `prepare` of its contestant has made. */
  readonly BENCH_DATABASE_URL: string;
  /** Only for those that need one. */
  readonly BENCH_REDIS_URL?: string;
  readonly BENCH_PLATFORM: Platform;
  /** Connections of the application's pool. */
  readonly BENCH_POOL: string;
  /** URL of the compiled `apps/shop.js`, for applications that can't import it by a path of their own. */
  readonly BENCH_SHOP: string;
  readonly NODE_ENV: 'production';
}

export type Platform = 'fastify' | 'express';

/**
 * - `/orders`: one INSERT on its own.
 * - `/orders-atomic`: the same in a transaction, BEGIN … COMMIT.
 * - `/slow`: the same after 100 ms of work.
 * - `/large`: no INSERT, and an answer of 1 MiB.
 * - `/undecorated`: no database, and nothing that guards it.
 * - `/unkeyed`: no database; guarded, and asked without a key.
 * - `/quiet` (GET): one `select 1`.
 */
export type Route = '/orders' | '/orders-atomic' | '/slow' | '/large' | '/undecorated' | '/unkeyed' | '/quiet';

export type ToApp =
  | { readonly kind: 'usage' }
  /** From now on, and until `usage` is asked for, note the most memory that was alive. Needs `--expose-gc`. */
  | { readonly kind: 'watch-memory' }
  | { readonly kind: 'stop' };

export type FromApp = { readonly kind: 'ready'; readonly port: number } | { readonly kind: 'usage'; readonly usage: Usage };

export interface Usage {
  /** Microseconds since the process began. */
  readonly cpu: NodeJS.CpuUsage;
  readonly memory: NodeJS.MemoryUsage;
  /** Bytes that survived a collection, heap and buffers, at the moment when they were most; where memory was watched. */
  readonly mostAlive?: number;
}
