/** What a probe hears of the module: over HTTP, and with a real Postgres that is away, empty or in the way. */
import { Controller, Get, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { setTimeout } from 'node:timers/promises';
import { Pool } from 'pg';
import { Idempotent } from '../../lib/index.js';
import { IdempotencyHealthIndicator } from '../../lib/terminus/index.js';
import type { HealthOptions } from '../../lib/terminus/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';

jest.setTimeout(30_000); // a reaper has to miss its rounds

const stage = bench();

let asked: HealthOptions | undefined;

@Controller('health')
class Health {
  constructor(
    private readonly health: HealthCheckService,
    private readonly idempotency: IdempotencyHealthIndicator,
  ) {}

  @Get()
  @HealthCheck()
  check() {
    return this.health.check([() => this.idempotency.isHealthy('idempotency', asked)]);
  }
}

@Controller('charges')
class Charges {
  @Post()
  @Idempotent()
  create(): string {
    return 'charged';
  }
}

const PARTS: AppParts = {
  controllers: [Health, Charges],
  imports: [TerminusModule.forRoot({ logger: false })],
  providers: [IdempotencyHealthIndicator],
};

interface Heard {
  readonly status: number;
  readonly told: Readonly<Record<string, unknown>>;
}

async function ask({ url }: RunningApp, options?: HealthOptions): Promise<Heard> {
  asked = options;
  const answer = await fetch(`${url}/health`);
  const body = (await answer.json()) as { details: { idempotency: Record<string, unknown> } };
  return { status: answer.status, told: body.details.idempotency };
}

/** As a probe does: again and again. */
async function askUntil(app: RunningApp, status: number): Promise<Heard> {
  for (;;) {
    const heard = await ask(app);
    if (heard.status === status) return heard;
    await setTimeout(50);
  }
}

describe.each(PLATFORMS)('the health of the module on %s', (platform) => {
  let line: TcpProxy;
  let pool: Pool;

  beforeAll(async () => {
    line = await startTcpProxy(stage.database().url);
    pool = new Pool({ connectionString: line.url });
    pool.on('error', () => undefined);
  });
  afterAll(async () => {
    await pool.end();
    await line.close();
  });

  it('is up where everything is as it should be', async () => {
    await stage.within(platform, { ...PARTS, options: { reaper: { every: '1m' } } }, async (app) => {
      expect(await ask(app)).toEqual({ status: 200, told: { status: 'up', store: 'reachable', migrations: 'current', reaper: 'alive' } });
    });
  });

  it('does not ask for a reaper that runs elsewhere', async () => {
    await stage.within(platform, PARTS, async (app) => {
      expect(await ask(app)).toMatchObject({ status: 200, told: { reaper: 'elsewhere' } });
    });
  });

  it('is down while Postgres is away or silent, and up again when it is back', async () => {
    const options = { pool, storeTimeout: '1m' } as const; // the probe's own limit is what counts
    await stage.within(platform, { ...PARTS, options }, async (app) => {
      line.cut();
      expect(await ask(app)).toMatchObject({
        status: 503,
        told: { status: 'down', store: 'unreachable', migrations: 'unknown', message: expect.stringContaining('Postgres') },
      });
      line.restore();
      expect(await ask(app)).toMatchObject({ status: 200 });
      line.hang();
      expect(await ask(app, { timeout: '100ms' })).toMatchObject({ status: 503, told: { store: 'unreachable' } });
      line.restore();
      expect(await ask(app)).toMatchObject({ status: 200 });
    });
  });

  it('is down when the tables are missing or outdated, and says what to run', async () => {
    const { pool: own } = stage.database();
    await stage.within(platform, PARTS, async (app) => {
      await own.query('alter table idempotency_records rename to elsewhere');
      try {
        expect(await ask(app)).toMatchObject({
          status: 503,
          told: { store: 'reachable', migrations: 'missing', message: expect.stringContaining('migration:run') },
        });
      } finally {
        await own.query('alter table elsewhere rename to idempotency_records');
      }
      await own.query('alter table idempotency_records rename column attempt to attempt_later');
      try {
        expect(await ask(app)).toMatchObject({ status: 503, told: { store: 'reachable', migrations: 'outdated' } });
      } finally {
        await own.query('alter table idempotency_records rename column attempt_later to attempt');
      }
      expect(await ask(app)).toMatchObject({ status: 200 });
    });
  });

  it('is down when a record is lost for too long, and names no key', async () => {
    await stage.within(platform, PARTS, async (app) => {
      const key = newKey();
      await app.post('/charges', { key });
      await stage.alter(key, `state = 0, locked_until = now() - interval '2 hours', completed_at = null`);
      expect(await ask(app)).toMatchObject({ status: 200 }); // nobody asked how old
      const { status, told } = await ask(app, { maxLostAge: '1h' });
      expect({ status, told }).toMatchObject({ status: 503, told: { lost: 1, message: expect.stringContaining('lost records') } });
      expect(told['oldestLostSeconds']).toBeGreaterThanOrEqual(7200);
      expect(JSON.stringify(told)).not.toContain(key);
      expect(await ask(app, { maxLostAge: '1d' })).toMatchObject({ status: 200, told: { lost: 1 } });
      await stage.database().pool.query('delete from idempotency_records where key = $1', [key]);
    });
  });

  it('looks for lost records once in a while, however often it is asked', async () => {
    await stage.within(platform, { ...PARTS, options: { pool } }, async (app) => {
      const looks = (): number => line.statements.filter((name) => name === 'idempotency_stats').length;
      const before = looks();
      for (let i = 0; i < 5; i++) await ask(app, { maxLostAge: '1h' });
      expect(looks() - before).toBe(1);
    });
  });

  it('is down when the reaper does not succeed for several rounds', async () => {
    const { pool: own } = stage.database();
    await stage.within(platform, { ...PARTS, options: { reaper: { every: '1s' } } }, async (app) => {
      const key = newKey();
      await app.post('/charges', { key });
      await own.query(`create or replace function refuse() returns trigger language plpgsql as $$ begin raise exception 'kept'; end $$`);
      await own.query('create trigger kept before delete on idempotency_records for each row execute function refuse()');
      try {
        await stage.alter(key, `expires_at = now() - interval '1 hour', reap_after = now() - interval '1 hour'`);
        expect(await askUntil(app, 503)).toMatchObject({
          told: { store: 'reachable', reaper: 'stuck', message: expect.stringContaining('reaper') },
        });
      } finally {
        await own.query('drop trigger kept on idempotency_records');
      }
      expect((await askUntil(app, 200)).told).toMatchObject({ reaper: 'alive' });
    });
  });

  it('refuses a time without a unit', async () => {
    await stage.within(platform, PARTS, async (app) => {
      const indicator = app.app.get(IdempotencyHealthIndicator, { strict: false });
      await expect(indicator.isHealthy('idempotency', { timeout: '3' })).rejects.toThrow("such as '3s'");
    });
  });
});

describe('IdempotencyHealthIndicator', () => {
  it('asks for the module where there is none', async () => {
    @Module({ imports: [TerminusModule], providers: [IdempotencyHealthIndicator] })
    class Alone {}
    const app = await NestFactory.create(Alone, { logger: false, abortOnError: false });
    await expect(app.init()).rejects.toThrow('IdempotencyModule.forRoot()');
    await app.close();
  });
});
