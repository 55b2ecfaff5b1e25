/** The running parts: a Postgres that stays, and a shop that can be killed and started again. */
import { startPostgres } from '../support/embedded-postgres.mjs';
import { holdLedger, ledgerIsWaitedFor } from './held-ledger.js';
import { startShop } from './shop-process.js';
import type { ShopProcess } from './shop-process.js';

export interface Stage {
  readonly shop: ShopProcess;
  /** A new process on the same database; the one before must be gone. */
  restartShop(): Promise<void>;
  /** Keeps everybody from entering anything in the shop's ledger, until the returned function is called. */
  holdLedger(): Promise<() => Promise<void>>;
  /** Resolves once somebody wants to. */
  ledgerIsWaitedFor(): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const given = process.env['DATABASE_URL'];
  const postgres = given ? undefined : await startPostgres();
  const databaseUrl = postgres?.url ?? given ?? '';
  const env = {
    DATABASE_URL: databaseUrl,
    PROVIDER_DELAY_MS: '1000', // so that a second click comes in time on any machine
  };
  let shop = await startShop(env);
  return {
    get shop() {
      return shop;
    },
    async restartShop() {
      shop = await startShop(env);
    },
    holdLedger: () => holdLedger(databaseUrl),
    ledgerIsWaitedFor: () => ledgerIsWaitedFor(databaseUrl),
    async close() {
      await shop.close();
      await postgres?.stop();
    },
  };
}
