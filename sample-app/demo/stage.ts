/** The running parts: a Postgres that stays, and a shop that can be killed and started again. */
import { startPostgres } from '../support/embedded-postgres.mjs';
import { startShop } from './shop-process.js';
import type { ShopProcess } from './shop-process.js';

export interface Stage {
  readonly shop: ShopProcess;
  readonly lockTtl: string;
  /** A new process on the same database; the one before must be gone. */
  restartShop(): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const databaseUrl = process.env['DATABASE_URL'];
  const postgres = databaseUrl ? undefined : await startPostgres();
  const lockTtl = '8s'; // longer than a shop takes to start, so that its first retry meets the lease
  const env = {
    DATABASE_URL: postgres?.url ?? databaseUrl,
    LOCK_TTL: lockTtl,
    PROVIDER_DELAY_MS: '1000', // so that a second click comes in time on any machine
  };
  let shop = await startShop(env);
  return {
    get shop() {
      return shop;
    },
    lockTtl,
    async restartShop() {
      shop = await startShop(env);
    },
    async close() {
      await shop.close();
      await postgres?.stop();
    },
  };
}
