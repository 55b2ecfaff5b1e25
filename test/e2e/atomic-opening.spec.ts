/** What an atomic request is answered whose transaction was to begin with its handler's first statement, and could not. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { Pool, type PoolClient } from 'pg';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { until } from './support/stage.js';
import { codeOf, field, isReplay, send } from './support/wire.js';

const shared = bench();

let began: string[] = [];

@Controller()
class Payments {
  @Idempotent({ atomic: true })
  @Post('payments')
  async pay(@CurrentExecution() { client }: IdempotentExecution, @Headers('idempotency-key') key: string): Promise<object> {
    began.push(key);
    await client.query('insert into payments values ($1)', [key]);
    return { paid: true };
  }

  @Idempotent({ atomic: true })
  @Post('careless')
  async payCarelessly(@CurrentExecution() { client }: IdempotentExecution, @Headers('idempotency-key') key: string): Promise<object> {
    began.push(key);
    await client.query('insert into payments values ($1)', [key]).catch(() => undefined);
    return { paid: true };
  }
}

interface Shop {
  readonly url: string;
  readonly line: TcpProxy;
  /** The next transaction is given its connection after this. */
  before(work: () => Promise<unknown>): void;
}

describe.each(PLATFORMS)('an atomic request whose handler is prompt, on %s', (platform) => {
  async function withShop(work: (shop: Shop) => Promise<void>): Promise<void> {
    const { url, pool: own } = shared.database();
    await own.query('create table if not exists payments (key text)');
    const line = await startTcpProxy(url);
    const pool = new Pool({ connectionString: line.url, max: 1 });
    pool.on('error', () => undefined);
    let before: (() => Promise<unknown>) | undefined;
    const connect = async (): Promise<PoolClient> => {
      const first = before;
      before = undefined;
      await first?.();
      return pool.connect();
    };
    const application = new Proxy(pool, {
      get: (target, property) => (property === 'connect' ? connect : (Reflect.get(target, property, target) as unknown)),
    });
    began = [];
    try {
      await shared.within(platform, { controllers: [Payments], options: { pool: application, dataSource: undefined } }, async (app) => {
        for (const path of ['payments', 'careless']) await send(`${app.url}/${path}`, { key: newKey(), body: {} }); // it is seen how prompt they are
        await work({ url: app.url, line, before: (first) => void (before = first) });
      });
    } finally {
      await pool.end();
      await line.close();
    }
  }

  const paid = async (key: string): Promise<number> =>
    (await shared.database().pool.query('select from payments where key = $1', [key])).rowCount ?? 0;

  it.each(['payments', 'careless'])('is 409 where somebody else has taken its key over in that moment (%s)', (path) =>
    withShop(async ({ url, before }) => {
      const key = newKey();
      const steal = 'update idempotency_records set owner = gen_random_uuid() where key = $1';
      before(() => shared.database().pool.query(steal, [key]));
      const answer = await send(`${url}/${path}`, { key, body: {} });
      expect([answer.status, codeOf(answer), field(answer, 'retry-after')]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE', '1']);
      expect([began.includes(key), await paid(key), await shared.records(key)]).toEqual([true, 0, 1]);
    }),
  );

  it.each(['payments', 'careless'])(
    'is 503 where its connection breaks in that moment, and comes through when it is sent again (%s)',
    (path) =>
      withShop(async ({ url, line }) => {
        const key = newKey();
        const lost = line.loseAnswerTo('idempotency_hold_or_fail');
        const answer = await send(`${url}/${path}`, { key, body: {} });
        await lost;
        expect([answer.status, codeOf(answer), field(answer, 'retry-after')]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', '1']);
        await until(async () => (await shared.records(key)) === 0);
        expect(await paid(key)).toBe(0);
        const retry = await send(`${url}/${path}`, { key, body: {} });
        expect([retry.status, isReplay(retry), await paid(key)]).toEqual([201, false, 1]);
      }),
  );
});
