/**
 * What every measured application does, whatever framework it is made with: places orders in
 * Postgres, and talks to the bench. It knows no framework and nothing of idempotency.
 */
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { FromApp, ToApp, Usage } from '../app-protocol.js';
import { LARGE_ANSWER, LARGE_WORK_MS, answerTo } from './orders.js';
import type { Order } from './orders.js';

export type { Order } from './orders.js';

/** What a query can be sent through: a pool, a client in a transaction, the library's own. */
interface Queryable {
  query(statement: { name: string; text: string; values: unknown[] }): Promise<{ rows: readonly unknown[] }>;
}

const INSERT = 'insert into bench_orders (key, sku, quantity, customer, note) values ($1, $2, $3, $4, $5) returning id';

export function openPool(settings: pg.PoolConfig = {}): pg.Pool {
  return new pg.Pool({ connectionString: process.env['BENCH_DATABASE_URL'], max: Number(process.env['BENCH_POOL']), ...settings });
}

/** The one business effect of a request. The key is noted beside it, so that one can see afterwards which of them ran twice. */
export async function placeOrder(database: Queryable, key: string | undefined, order: Order): Promise<object> {
  return answerTo(idIn(await database.query({ name: 'place_order', text: INSERT, values: valuesOf(key, order) })), order);
}

/** In a transaction of its own, as a handler with more than one statement would. */
export async function placeOrderAtomically(pool: pg.Pool, key: string | undefined, order: Order): Promise<object> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const answer = await placeOrder(client, key, order);
    await client.query('COMMIT');
    return answer;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

const SLOW_MS = 100;

/** Work that takes its time, such as a call to somebody else. */
export async function placeOrderSlowly(pool: pg.Pool, key: string | undefined, order: Order): Promise<object> {
  await pause(SLOW_MS);
  return placeOrder(pool, key, order);
}

export async function largeAnswer(): Promise<object> {
  await pause(LARGE_WORK_MS);
  return LARGE_ANSWER;
}

export async function quiet(pool: pg.Pool): Promise<object> {
  await pool.query({ name: 'quiet', text: 'select 1' });
  return { quiet: true };
}

function valuesOf(key: string | undefined, { sku, quantity, customer, note }: Order): unknown[] {
  return [key, sku, quantity, customer, note];
}

function idIn({ rows: [row] }: { readonly rows: readonly unknown[] }): string {
  return (row as { readonly id: string }).id;
}

/** Tells the bench where the application listens, and does what it asks from then on. `close` ends what keeps the process alive. */
export function obeyBench(port: number, close: () => Promise<unknown>): void {
  let watch: MemoryWatch | undefined;
  const tell = (message: FromApp): void => void process.send?.(message);
  process.on('message', (message: ToApp) => {
    switch (message.kind) {
      case 'usage': {
        const mostAlive = watch?.stop();
        watch = undefined;
        const usage: Usage = { cpu: process.cpuUsage(), memory: process.memoryUsage(), ...(mostAlive === undefined ? {} : { mostAlive }) };
        return tell({ kind: 'usage', usage });
      }
      case 'watch-memory':
        watch = new MemoryWatch();
        return;
      case 'stop':
        void close().finally(() => process.exit());
    }
  });
  process.once('disconnect', () => process.exit()); // nobody is left to measure for
  tell({ kind: 'ready', port });
}

/** Between two looks the application gets to do something. */
const LOOK_EVERY_MS = 1;

/** Collects garbage again and again: what is left is held by somebody. */
class MemoryWatch {
  #most = 0;
  readonly #timer = setInterval(() => this.#look(), LOOK_EVERY_MS);

  constructor() {
    this.#look();
  }

  stop(): number {
    clearInterval(this.#timer);
    this.#look();
    return this.#most;
  }

  #look(): void {
    if (globalThis.gc === undefined) throw new Error('Memory can be watched only in a process that was started with --expose-gc.');
    globalThis.gc();
    globalThis.gc(); // buffers that the first one found dead are counted until the next one begins
    const { heapUsed, external } = process.memoryUsage(); // buffers are within `external`
    this.#most = Math.max(this.#most, heapUsed + external);
  }
}
