/** What every end-to-end spec stands on: a migrated database of its own, and applications that are gone afterwards. */
import { afterAll, beforeAll } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { startApp } from '../../support/app.js';
import type { AppParts, Platform, RunningApp } from '../../support/app.js';
import { createTestDatabase, migrate } from '../../support/database.js';
import type { TestDatabase } from '../../support/database.js';

export interface Bench {
  /** An application for several tests; closed when the spec file is done. */
  start(platform: Platform, parts: AppParts): Promise<RunningApp>;
  /** An application for one test. */
  within<T>(platform: Platform, parts: AppParts, work: (app: RunningApp) => Promise<T>): Promise<T>;
  database(): TestDatabase;
  /** How many records there are for a key, whatever their scope. */
  records(key: string): Promise<number>;
  /** Puts a record into another state, as time or a crash would. */
  alter(key: string, assignments: string): Promise<void>;
}

export function bench(): Bench {
  let database: TestDatabase;
  const running: RunningApp[] = [];

  beforeAll(async () => {
    database = await createTestDatabase();
    await migrate(database);
  });
  afterAll(async () => {
    await Promise.all(running.map((app) => app.close()));
    await database.drop();
  });

  const open = (platform: Platform, parts: AppParts): Promise<RunningApp> =>
    startApp(platform, { ...parts, options: { pool: database.pool, reaper: false, ...parts.options } });

  return {
    database: () => database,
    async start(platform, parts) {
      const app = await open(platform, parts);
      running.push(app);
      return app;
    },
    async within(platform, parts, work) {
      const app = await open(platform, parts);
      try {
        return await work(app);
      } finally {
        await app.close();
      }
    },
    async records(key) {
      const { rows } = await database.pool.query<{ count: number }>(
        'select count(*)::int as count from idempotency_records where key = $1',
        [key],
      );
      return rows[0]?.count ?? 0;
    },
    async alter(key, assignments) {
      await database.pool.query(`update idempotency_records set ${assignments} where key = $1`, [key]);
    },
  };
}

export const newKey = (): string => randomUUID();

/** Counts what handlers did. Every run has a number of its own, so that a second run can't look like a replay. */
export class Ledger {
  #runs: string[] = [];

  /** Notes a run of `what` down; the number is different for every run. */
  run(what: string): number {
    return this.#runs.push(what);
  }

  runs(what: string): number {
    return this.#runs.filter((run) => run === what).length;
  }

  get total(): number {
    return this.#runs.length;
  }
}
