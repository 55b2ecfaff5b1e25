/** The sample shop in a process of its own on a database of its own, and its customers. */
import type { OutgoingHttpHeaders } from 'node:http';
import { send } from '../e2e/support/wire.js';
import type { Answer } from '../e2e/support/wire.js';
import { startAppProcess } from './app-process.js';
import type { AppProcess } from './app-process.js';
import { createTestDatabase } from './database.js';
import type { TestDatabase } from './database.js';

export interface Asked {
  /** Default: `alice`. `null`: nobody is logged in. */
  readonly as?: 'alice' | 'bob' | 'carol' | null;
  readonly key?: string;
  readonly body?: unknown;
  readonly headers?: OutgoingHttpHeaders;
}

export interface SampleShop {
  readonly database: TestDatabase;
  readonly process: AppProcess;
  ask(method: string, path: string, asked?: Asked): Promise<Answer>;
  /** How many rows a statement finds. */
  count(statement: string, values?: readonly unknown[]): Promise<number>;
  /** Ends the process and removes the database. */
  close(): Promise<void>;
}

export async function openSampleShop(env: NodeJS.ProcessEnv = {}): Promise<SampleShop> {
  const database = await createTestDatabase();
  const process = await startSampleShop(database, env);
  return {
    database,
    process,
    ask: (method, path, asked) => askShop(process, method, path, asked),
    async count(statement, values = []) {
      return (await database.pool.query(statement, [...values])).rowCount ?? 0;
    },
    async close() {
      await stop(process);
      await database.drop();
    },
  };
}

/** One more process of the shop. */
export function startSampleShop(database: TestDatabase, env: NodeJS.ProcessEnv = {}): Promise<AppProcess> {
  return startAppProcess('sample-app/main.ts', {
    DATABASE_URL: database.url,
    PORT: '0',
    PROVIDER_DELAY_MS: '0',
    SMTP_URL: '',
    ...env,
  });
}

export async function stop(shop: AppProcess): Promise<void> {
  shop.kill('SIGTERM');
  await shop.exited;
}

export function askShop(shop: AppProcess, method: string, path: string, { as = 'alice', key, body, headers }: Asked = {}): Promise<Answer> {
  return send(shop.url + path, {
    method,
    headers: { ...(as !== null && { authorization: `Bearer ${as}-token` }), ...headers },
    ...(key !== undefined && { key }),
    ...(body !== undefined && { body }),
  });
}
