import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pool } from 'pg';
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';
import { CurrentExecution, Idempotent, IdempotencyEvents, IdempotencyService } from '../../lib/index.js';
import type { IdempotencyEvent, IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { migrate } from '../support/database.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();
let proxy: TcpProxy;

beforeEach(async () => {
  proxy = await startTcpProxy(shared.database().url);
});
afterEach(() => proxy.close());

function runOf(key: string): number {
  ledger.run(key);
  return ledger.runs(key);
}

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  async pay(@Headers('idempotency-key') key: string): Promise<object> {
    const run = runOf(key);
    await stage.stopAt(key);
    return { run };
  }

  @Idempotent({ onStoreFailure: 'bypass' })
  @Post('bypass')
  bypass(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): object {
    return { run: runOf(key), key: execution.key, charge: execution.keyFor('charge') };
  }

  @Post('plain')
  plain(): object {
    return {};
  }

  @Idempotent()
  @Post('optional')
  optional(): object {
    return {};
  }
}

interface Cut extends RunningApp {
  readonly events: IdempotencyEvent[];
  readonly journal: Journal;
}

describe.each(PLATFORMS)('Postgres behind a broken line on %s', (platform) => {
  /** An application that reaches Postgres by way of the proxy; `storeTimeout` as short as the tests can bear. */
  async function behindProxy(work: (app: Cut) => Promise<void>, options: AppParts['options'] = {}): Promise<void> {
    const journal = new Journal();
    const parts = {
      controllers: [Payments],
      create: { logger: journal },
      options: { pool: new Pool({ connectionString: proxy.url }), storeTimeout: '300ms', ...options },
    };
    await shared.within(platform, parts, async (running) => {
      const events: IdempotencyEvent[] = [];
      running.app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
      await work({ ...running, events, journal }).finally(() => {
        stage.openAll();
        proxy.restore();
      });
    });
  }

  describe('at the claim', () => {
    it.each(['cut', 'hang'] as const)('is 503 with Retry-After, and no handler runs (%s)', (how) =>
      behindProxy(async ({ url, events, journal }) => {
        const key = newKey();
        stage.open(key);
        proxy[how]();
        const refused = await send(`${url}/payments`, { key });
        expect([refused.status, codeOf(refused), field(refused, 'retry-after')]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', '1']);
        expect(ledger.runs(key)).toBe(0);
        expect(events.map(({ type }) => type)).toEqual(['store-failed', 'rejected']);
        expect(journal.own('error')).toHaveLength(1);

        proxy.restore();
        await until(async () => (await send(`${url}/payments`, { key })).status === 201);
        expect(ledger.runs(key)).toBe(1);
      }),
    );

    it('asks nothing of requests without a key, or of other handlers', () =>
      behindProxy(async ({ url }) => {
        proxy.cut();
        expect((await send(`${url}/optional`)).status).toBe(201);
        expect((await send(`${url}/plain`, { key: newKey() })).status).toBe(201);
      }));

    it('that arrived all the same is taken back soon: its key is not in use for nothing', () =>
      behindProxy(async ({ url }) => {
        const key = newKey();
        stage.open(key);
        const lost = proxy.loseAnswerTo('idempotency_claim').then(() => proxy.cut());
        const refused = await send(`${url}/payments`, { key });
        await lost;
        expect([refused.status, await shared.records(key)]).toEqual([503, 1]);
        proxy.restore();
        await until(async () => (await shared.records(key)) === 0);
        expect(ledger.runs(key)).toBe(0);
        expect((await send(`${url}/payments`, { key })).status).toBe(201);
      }));

    it('whose answer alone was lost is known again when it is repeated', () =>
      behindProxy(async ({ url }) => {
        const key = newKey();
        stage.open(key);
        const lost = proxy.loseAnswerTo('idempotency_claim');
        const answer = await send(`${url}/payments`, { key });
        await lost;
        expect([answer.status, ledger.runs(key)]).toEqual([201, 1]);
        expect(isReplay(await send(`${url}/payments`, { key }))).toBe(true);
      }));

    it('that arrives long after everybody has given up is taken back as well', () =>
      behindProxy(async ({ url }) => {
        const [warm, key] = [newKey(), newKey()];
        for (const name of [warm, key]) stage.open(name);
        await send(`${url}/payments`, { key: warm });
        proxy.hang();
        expect((await send(`${url}/payments`, { key })).status).toBe(503);
        proxy.restore();
        await until(async () => (await shared.records(key)) === 0 && proxy.statements.includes('idempotency_release'));
        expect(ledger.runs(key)).toBe(0);
      }));

    it('runs unprotected where that was chosen, with the same keys for others, and says so', () =>
      behindProxy(async ({ url, events }) => {
        const key = newKey();
        proxy.cut();
        const [first, second] = [await send(`${url}/bypass`, { key }), await send(`${url}/bypass`, { key })];
        expect([first.status, isReplay(first)]).toEqual([201, false]);
        expect(json(first)).toMatchObject({ run: 1, key });
        expect(json(second)).toMatchObject({ run: 2 });
        expect((json(second) as { charge: string }).charge).toBe((json(first) as { charge: string }).charge);
        expect(events.map(({ type }) => type)).toEqual(['store-failed', 'store-failed']);
      }));
  });

  describe('at the completion', () => {
    it('for a moment is waited for: the answer leaves after its record, and is replayed', () =>
      behindProxy(
        async ({ url, events }) => {
          const key = newKey();
          const first = send(`${url}/payments`, { key });
          await stage.reached(key);
          proxy.cut();
          let answered = false;
          void first.then(() => (answered = true));
          const before = proxy.connections;
          stage.open(key);
          await until(() => proxy.connections > before + 2);
          expect(answered).toBe(false);
          proxy.restore();
          const answer = await first;
          expect([answer.status, await shared.records(key)]).toEqual([201, 1]);
          expect(events.map(({ type }) => type)).toEqual(['claimed', 'completed']);
          const retry = await send(`${url}/payments`, { key });
          expect([retry.text, isReplay(retry)]).toEqual([answer.text, true]);
        },
        { storeTimeout: '4s' },
      ));

    it.each(['cut', 'hang'] as const)('for long lets the answer go, says so, and keeps it when Postgres is back (%s)', (how) =>
      behindProxy(async ({ url, events, journal }) => {
        const key = newKey();
        const first = send(`${url}/payments`, { key });
        await stage.reached(key);
        proxy[how]();
        stage.open(key);
        const answer = await first;
        expect(answer.status).toBe(201);
        expect(events.map(({ type }) => type)).toEqual(['claimed', 'store-failed']);
        expect(journal.own('error')).toContainEqual(expect.stringMatching(/Payments\.pay/));

        proxy.restore();
        await until(() => events.some(({ type }) => type === 'completed'));
        const retry = await send(`${url}/payments`, { key });
        expect([retry.text, isReplay(retry)]).toEqual([answer.text, true]);
        expect(ledger.runs(key)).toBe(1);
      }),
    );

    it('whose answer alone was lost is settled by its repetition, and not a loss of the lease', () =>
      behindProxy(
        async ({ url, events }) => {
          const key = newKey();
          const first = send(`${url}/payments`, { key });
          await stage.reached(key);
          const lost = proxy.loseAnswerTo('idempotency_complete');
          stage.open(key);
          await lost;
          expect((await first).status).toBe(201);
          expect(events.map(({ type }) => type)).toEqual(['claimed', 'completed']);
          expect(isReplay(await send(`${url}/payments`, { key }))).toBe(true);
        },
        { storeTimeout: '4s' },
      ));
  });

  it('says nothing of keys, scopes or bodies in any log, whatever fails', () =>
    behindProxy(async ({ url, journal }) => {
      const [key, secret] = ['a-very-secret-key', 'a-very-secret-body'];
      const first = send(`${url}/payments`, { key, body: { secret } });
      await stage.reached(key);
      proxy.cut();
      stage.open(key);
      await first;
      await send(`${url}/payments`, { key: `${key}-2`, body: { secret } });
      expect(journal.own().length).toBeGreaterThan(0);
      expect(journal.lines.join('\n')).not.toMatch(/a-very-secret/);
    }));
});

describe.each(PLATFORMS)('a renewal that fails on %s', (platform) => {
  it('costs nobody the key: the lease is renewed again when Postgres is back', () => {
    @Controller()
    class Short {
      @Idempotent({ lockTtl: '3s' })
      @Post('short')
      async short(@Headers('idempotency-key') key: string): Promise<object> {
        await stage.stopAt(key);
        return {};
      }
    }
    const parts = { controllers: [Short], options: { pool: new Pool({ connectionString: proxy.url }) } };
    return shared.within(platform, parts, async ({ app, url }) => {
      const failed: IdempotencyEvent[] = [];
      app.get(IdempotencyEvents).events$.subscribe((event) => event.type === 'store-failed' && failed.push(event));
      const service = app.get(IdempotencyService);
      const key = newKey();
      const first = send(`${url}/short`, { key });
      await stage.reached(key);
      const claimed = (await service.find({ scope: '', key }))?.lockedUntil;
      proxy.cut();
      await until(() => failed.length > 0);
      proxy.restore();
      await until(async () => ((await service.find({ scope: '', key }).catch(() => undefined))?.lockedUntil ?? 0) > claimed!);
      stage.open(key);
      expect((await first).status).toBe(201);
      expect(isReplay(await send(`${url}/short`, { key }))).toBe(true);
    });
  });
});

describe.each(PLATFORMS)('connections that die while a handler runs on %s', (platform) => {
  it('cost nothing: its answer is kept', () =>
    shared.within(platform, { controllers: [Payments] }, async ({ url }) => {
      const key = newKey();
      const first = send(`${url}/payments`, { key });
      await stage.reached(key);
      await shared
        .database()
        .pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'nestjs-idempotency-pg'`,
        );
      stage.open(key);
      expect((await first).status).toBe(201);
      expect(isReplay(await send(`${url}/payments`, { key }))).toBe(true);
    }));
});

describe('a restart of Postgres', () => {
  let dataDir: string;
  let postgres: Awaited<ReturnType<typeof startPostgres>>;

  beforeAll(async () => {
    dataDir = join(await mkdtemp(join(tmpdir(), 'idempotency-e2e-')), 'data');
    postgres = await startPostgres({ dataDir });
    await migrate(postgres);
  }, 60_000);
  afterAll(async () => {
    await postgres.stop();
    await rm(join(dataDir, '..'), { recursive: true, force: true });
  }, 60_000);

  it.each(PLATFORMS)(
    'in the middle of a handler loses nothing on %s',
    async (platform) => {
      const options = { pool: new Pool({ connectionString: postgres.url }), storeTimeout: '20s' };
      await shared.within(platform, { controllers: [Payments], options }, async ({ url }) => {
        const [done, key] = [newKey(), newKey()];
        stage.open(done);
        const before = await send(`${url}/payments`, { key: done });
        const first = send(`${url}/payments`, { key });
        await stage.reached(key);
        await postgres.stop();
        stage.open(key);
        postgres = await startPostgres({ dataDir, port: postgres.port });

        const stored = new Map([
          [done, before],
          [key, await first],
        ]);
        for (const [name, answer] of stored) {
          expect([answer.status, isReplay(answer)]).toEqual([201, false]);
          const retry = await send(`${url}/payments`, { key: name });
          expect([retry.status, retry.text, isReplay(retry)]).toEqual([201, answer.text, true]);
          expect(ledger.runs(name)).toBe(1);
        }
      });
    },
    60_000,
  );
});
