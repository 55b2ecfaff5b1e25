import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Param, Post } from '@nestjs/common';
import type { PipeTransform } from '@nestjs/common';
import { Pool } from 'pg';
import { Idempotent, IdempotencyEvents } from '../../lib/index.js';
import type { IdempotencyEvent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts } from '../support/app.js';
import { runToExit } from '../support/app-process.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

const slowPipe: PipeTransform<string, Promise<string>> = {
  async transform(value) {
    await stage.stopAt(`${value} pipe`);
    return value;
  },
};

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  async pay(@Headers('idempotency-key') key: string): Promise<object> {
    ledger.run(key);
    await stage.stopAt(key);
    return { runs: ledger.runs(key) };
  }

  @Idempotent()
  @Post('validated/:value')
  validated(@Headers('idempotency-key') key: string, @Param('value', slowPipe) _value: string): object {
    ledger.run(key);
    return {};
  }

  @Post('plain')
  plain(): object {
    return {};
  }
}

const parts = { controllers: [Payments] } satisfies AppParts;

/** What the server sees of the module's pools, which go by this name unless the application has one. */
async function connections(): Promise<number> {
  const { rows } = await shared
    .database()
    .pool.query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'nestjs-idempotency-pg'`,
    );
  return rows[0]!.n;
}

async function stateOf(key: string): Promise<number | undefined> {
  const { rows } = await shared.database().pool.query<{ state: number }>('select state from idempotency_records where key = $1', [key]);
  return rows[0]?.state;
}

describe.each(PLATFORMS)('closing an application on %s', (platform) => {
  /** Whatever becomes of the test, its handlers go on, so that the application can close. */
  const within = (work: Parameters<typeof shared.within<void>>[2], options: AppParts['options'] = {}): Promise<void> =>
    shared.within(platform, { ...parts, options }, (app) => work(app).finally(() => stage.openAll()));

  it('waits for the handler that runs, whose client gets its answer', () =>
    within(async ({ app, url }) => {
      const key = newKey();
      const first = send(`${url}/payments`, { key });
      await stage.reached(key);
      const closing = app.close();
      await until(async () => codeOf(await send(`${url}/payments`, { key: newKey() })) === 'IDEMPOTENCY_STORE_UNAVAILABLE');
      stage.open(key);
      const answer = await first;
      expect([answer.status, json(answer)]).toEqual([201, { runs: 1 }]);
      await closing;
      await within(async (next) => expect(isReplay(await send(`${next.url}/payments`, { key }))).toBe(true));
    }));

  it('answers keyed requests with 503 meanwhile, also those that could be replayed, and others as ever', () =>
    within(async ({ app, url }) => {
      const [done, key] = [newKey(), newKey()];
      stage.open(done);
      await send(`${url}/payments`, { key: done });
      const first = send(`${url}/payments`, { key });
      await stage.reached(key);
      const closing = app.close();
      await until(async () => (await send(`${url}/payments`, { key: done })).status === 503);
      const refused = await send(`${url}/payments`, { key: newKey() });
      expect([refused.status, codeOf(refused), field(refused, 'retry-after')]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', '1']);
      expect((await send(`${url}/plain`)).status).toBe(201);
      stage.open(key);
      await Promise.all([first, closing]);
    }));

  it('leaves no connection behind', async () => {
    await within(async ({ url }) => {
      const key = newKey();
      stage.open(key);
      await send(`${url}/payments`, { key });
      expect(await connections()).toBeGreaterThan(0);
    });
    await until(async () => (await connections()) === 0);
  });

  it('leaves no timer or handle behind: a process that has nothing else to do ends', async () => {
    const { code, output } = await runToExit('test/support/apps/closing.ts', { DATABASE_URL: shared.database().url, PLATFORM: platform });
    await shared.database().pool.query(`delete from idempotency_records where key = 'closing'`);
    expect(output.split('\n')).toEqual([
      'first: 201 {"paid":true} replayed=null',
      'second: 201 {"paid":true} replayed=true',
      'the events are complete',
      'closed',
    ]);
    expect(code).toBe(0);
  }, 30_000);

  it('gives a handler that takes longer than shutdownTimeout up: its key is lost, and can be taken over', async () => {
    const key = newKey();
    const journal = new Journal();
    const options = { shutdownTimeout: '50ms' };
    await shared.within(platform, { ...parts, options, create: { logger: journal } }, async ({ app, url }) => {
      const first = send(`${url}/payments`, { key }).catch(() => 'cut off');
      await stage.reached(key);
      await app.close();
      expect(await first).toBe('cut off');
    });
    expect(await stateOf(key)).toBe(0);
    await until(async () => (await connections()) === 0);

    stage.open(key); // its late end finds everything closed
    await shared.alter(key, `locked_until = statement_timestamp() - interval '1 second'`);
    await within(async ({ url }) => {
      const second = await send(`${url}/payments`, { key });
      expect(json(second)).toEqual({ runs: 2 });
    });
  });

  it('leaves no claim of a handler that has not begun, which then never does', async () => {
    const key = newKey();
    await within(
      async ({ app, url }) => {
        const first = send(`${url}/validated/${key}`, { key }).catch(() => 'cut off');
        await stage.reached(`${key} pipe`);
        expect(await shared.records(key)).toBe(1);
        await app.close();
        expect(await shared.records(key)).toBe(0);
        await first;
        stage.open(`${key} pipe`);
      },
      { shutdownTimeout: '50ms' },
    );
    expect(ledger.runs(key)).toBe(0);
  });

  it('lets a handler begin that was on its way, if it does so in time', () =>
    within(async ({ app, url }) => {
      const key = newKey();
      const first = send(`${url}/validated/${key}`, { key });
      await stage.reached(`${key} pipe`);
      const closing = app.close();
      await until(async () => (await send(`${url}/payments`, { key: newKey() })).status === 503);
      stage.open(`${key} pipe`);
      expect((await first).status).toBe(201);
      await closing;
      expect(await stateOf(key)).toBe(1);
    }));

  it('takes a claim back that was on its way to Postgres', async () => {
    const proxy = await startTcpProxy(shared.database().url);
    const key = newKey();
    try {
      await within(
        async ({ app, url }) => {
          proxy.hang();
          const first = send(`${url}/payments`, { key });
          await until(() => proxy.statements.includes('idempotency_claim'));
          const closing = app.close();
          await until(async () => (await send(`${url}/payments`, { key: newKey() })).status === 503);
          proxy.restore();
          expect((await first).status).toBe(503);
          await closing;
        },
        { pool: new Pool({ connectionString: proxy.url }), storeTimeout: '4s' },
      );
      expect([await shared.records(key), ledger.runs(key)]).toEqual([0, 0]);
    } finally {
      await proxy.close();
    }
  });

  it('does not wait for a Postgres that does not answer', async () => {
    const proxy = await startTcpProxy(shared.database().url);
    const events: IdempotencyEvent[] = [];
    try {
      await within(
        async ({ app, url }) => {
          app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
          const key = newKey();
          const busy = [key, newKey(), newKey(), newKey()];
          const requests = busy.map((name) => send(`${url}/payments`, { key: name }));
          await Promise.all(busy.map((name) => stage.reached(name)));
          proxy.hang();
          stage.open(key);
          expect((await requests[0])?.status).toBe(201);
          expect(events.map(({ type }) => type).slice(-1)).toEqual(['store-failed']);
          for (const request of requests) request.catch(() => undefined); // they are cut off
          await app.close(); // the lease, for which the record would be tried again, is a minute
        },
        { pool: new Pool({ connectionString: proxy.url }), storeTimeout: '200ms', shutdownTimeout: '50ms' },
      );
    } finally {
      await proxy.close();
    }
  });

  it('can be done twice', () => within(async ({ app }) => Promise.all([app.close(), app.close()]).then(() => undefined)));
});
