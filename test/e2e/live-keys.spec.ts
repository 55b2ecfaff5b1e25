/** How many keys a caller may have at once. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { Idempotent, IdempotencyService } from '../../lib/index.js';
import { migrate } from '../support/database.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const LIMIT = 5;
const ledger = new Ledger();
const stage = new Stage();

const scope = ({ headers }: { headers?: Record<string, unknown> }): string => String(headers?.['x-caller']);

@Controller()
class Payments {
  @Idempotent({ scope, maxLiveKeys: LIMIT })
  @Post('limited')
  limited(): object {
    return { run: ledger.run('limited') };
  }

  @Idempotent({ scope, maxLiveKeys: LIMIT })
  @Post('slow')
  async slow(@Headers('x-caller') caller: string): Promise<object> {
    await stage.stopAt(caller);
    return {};
  }

  @Idempotent({ scope })
  @Post('unlimited')
  unlimited(): object {
    return {};
  }
}

async function live(caller: string): Promise<number> {
  const { rows } = await shared
    .database()
    .pool.query<{ n: number }>('select count(*)::int as n from idempotency_records where scope = $1', [caller]);
  return rows[0]!.n;
}

const withIndex: AppParts = { controllers: [Payments], options: {} };

describe.each(PLATFORMS)('maxLiveKeys on %s', (platform) => {
  const within = async (work: (app: RunningApp) => Promise<void>): Promise<void> => {
    await migrate(shared.database(), undefined, { maxLiveKeys: true });
    await shared.within(platform, withIndex, work);
  };
  const by = (caller: string, { url }: RunningApp, key = newKey(), path = 'limited', body?: object): Promise<Answer> =>
    send(`${url}/${path}`, { key, headers: { 'x-caller': caller }, ...(body && { body }) });
  const fill = async (caller: string, app: RunningApp): Promise<string[]> => {
    const keys = Array.from({ length: LIMIT }, newKey);
    for (const key of keys) await by(caller, app, key);
    return keys;
  };

  it('refuses a new key beyond the limit with 429, stores nothing and runs nothing', () =>
    within(async (app) => {
      const caller = newKey();
      await fill(caller, app);
      const [key, runs] = [newKey(), ledger.total];
      const refused = await by(caller, app, key);
      expect([refused.status, codeOf(refused), field(refused, 'content-type')]).toEqual([
        429,
        'IDEMPOTENCY_TOO_MANY_KEYS',
        expect.stringMatching(/problem\+json/),
      ]);
      expect([await shared.records(key), ledger.total]).toEqual([0, runs]);
    }));

  it('says when the first key ends', () =>
    within(async (app) => {
      const caller = newKey();
      const [first = ''] = await fill(caller, app);
      const day = Number(field(await by(caller, app), 'retry-after'));
      expect(day).toBeGreaterThan(86_000);
      expect(day).toBeLessThanOrEqual(86_400);
      await shared.alter(first, `expires_at = statement_timestamp() + interval '1 minute'`);
      expect(Number(field(await by(caller, app), 'retry-after'))).toBeLessThanOrEqual(60);
    }));

  it('lets keys that exist replay, be reused for another request, and be in use, as ever', () =>
    within(async (app) => {
      const caller = newKey();
      const [first = ''] = await fill(caller, app);
      expect(isReplay(await by(caller, app, first))).toBe(true);
      expect((await by(caller, app, first, 'limited', { other: true })).status).toBe(422);
      await shared.alter(first, `state = 0, locked_until = statement_timestamp() + interval '1 minute', expires_at = null`);
      expect(codeOf(await by(caller, app, first))).toBe('IDEMPOTENCY_KEY_IN_USE');
    }));

  it('counts each caller by itself, and no route that sets no limit', () =>
    within(async (app) => {
      const caller = newKey();
      await fill(caller, app);
      expect((await by(newKey(), app)).status).toBe(201);
      expect((await by(caller, app, newKey(), 'unlimited')).status).toBe(201);
    }));

  it('counts what runs', () =>
    within(async (app) => {
      const caller = newKey();
      const running = Array.from({ length: LIMIT }, () => by(caller, app, newKey(), 'slow'));
      await until(async () => (await live(caller)) === LIMIT);
      const refused = await by(caller, app);
      stage.open(caller);
      expect([refused.status, field(refused, 'retry-after')]).toEqual([429, '1']); // nobody knows how long they take
      expect((await Promise.all(running)).map(({ status }) => status)).toEqual(Array.from({ length: LIMIT }, () => 201));
    }));

  it('does not count what has expired, reaped or not', () =>
    within(async (app) => {
      const caller = newKey();
      const [oldest = ''] = await fill(caller, app);
      await shared.alter(oldest, `expires_at = statement_timestamp() - interval '1 second'`);
      expect((await by(caller, app)).status).toBe(201);
      expect((await by(caller, app)).status).toBe(429);
      expect((await by(caller, app, oldest)).status).toBe(429); // its time is over, so it is a new key
    }));

  it('of thirty simultaneous new keys lets the limit through, and at most as many more as there are connections', () =>
    within(async (app) => {
      const caller = newKey();
      const gate = barrier(30);
      const answers = await Promise.all(Array.from({ length: 30 }, () => gate.arrive().then(() => by(caller, app))));
      const passed = answers.filter(({ status }) => status === 201).length;
      expect(passed).toBeGreaterThanOrEqual(LIMIT);
      expect(passed).toBeLessThanOrEqual(LIMIT + 3); // four connections: three claims that one does not see
      expect(answers.filter(({ status }) => status === 429)).toHaveLength(30 - passed);
      expect((await by(caller, app)).status).toBe(429);
    }));

  it('does not limit run(), whose keys are the application’s own', async () => {
    await migrate(shared.database(), undefined, { maxLiveKeys: true });
    await shared.within(platform, { controllers: [Payments], options: { maxLiveKeys: 1 } }, async ({ app }) => {
      const service = app.get(IdempotencyService);
      const scopeOfRuns = newKey();
      for (const key of ['1', '2', '3']) await service.run({ operation: 'mail', key, scope: scopeOfRuns }, () => key);
      expect((await service.stats()).completed).toBeGreaterThanOrEqual(3);
    });
  });
});

describe('without its index', () => {
  it('maxLiveKeys is refused at the start, with the remedy', async () => {
    await shared.database().pool.query('drop index if exists idempotency_records_scope');
    const started = shared.within('express', { ...withIndex, create: { abortOnError: false } }, async () => 'It started.');
    await expect(started).rejects.toMatchObject({
      code: 'IDEMPOTENCY_SCHEMA_OUTDATED',
      message: expect.stringMatching(/maxLiveKeys needs an index.*idempotencyMigrationsFor\(\{ schema, maxLiveKeys: true \}\)/),
    });
  });
});
