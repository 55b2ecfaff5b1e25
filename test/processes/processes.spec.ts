import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { PLATFORMS } from '../support/app.js';
import { startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { codeOf, isReplay, json, send } from '../e2e/support/wire.js';
import type { Answer } from '../e2e/support/wire.js';

let database: TestDatabase;
const processes: AppProcess[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  await database.pool.query('create table charges (id serial primary key, key text not null); create table go_on (key text primary key)');
});
afterEach(async () => {
  await Promise.all(
    processes.splice(0).map(async (running) => {
      running.kill('SIGCONT');
      running.kill('SIGKILL');
      await running.exited;
    }),
  );
});
afterAll(() => database.drop());

const newKey = (): string => randomUUID();

async function charges(key: string): Promise<number> {
  const { rows } = await database.pool.query<{ n: number }>('select count(*)::int as n from charges where key = $1', [key]);
  return rows[0]!.n;
}

async function tellToGoOn(key: string): Promise<void> {
  await database.pool.query('insert into go_on values ($1)', [key]);
}

/** The lease runs out on the database's clock, of which a test need not wait for. */
async function letLeasePass(key: string): Promise<void> {
  await database.pool.query(`update idempotency_records set locked_until = statement_timestamp() - interval '1 second' where key = $1`, [
    key,
  ]);
}

async function recordOf(key: string): Promise<{ state: number; attempt: number; body: string | null } | undefined> {
  const { rows } = await database.pool.query<{ state: number; attempt: number; body: string | null }>(
    `select state, attempt, convert_from(body, 'UTF8') as body from idempotency_records where key = $1`,
    [key],
  );
  expect(rows.length).toBeLessThanOrEqual(1);
  return rows[0];
}

describe.each(PLATFORMS)('several processes on %s', (platform) => {
  async function start(count: number, env: NodeJS.ProcessEnv = {}): Promise<AppProcess[]> {
    const started = await Promise.all(
      Array.from({ length: count }, () =>
        startAppProcess('test/support/apps/payments.ts', { DATABASE_URL: database.url, PLATFORM: platform, ...env }),
      ),
    );
    processes.push(...started);
    return started;
  }

  const pay = ({ url }: AppProcess, key: string): Promise<Answer> => send(`${url}/payments`, { key, body: { amount: 10 } });

  it('of a storm on one key charge once; the others hear that it is in use, and later all get the same bytes', async () => {
    const [key, shops] = [newKey(), await start(3)];
    const storm = Array.from({ length: 60 }, (_, i) => pay(shops[i % 3]!, key));
    // All but the one that runs are answered while it does.
    const answers: Answer[] = [];
    for (const request of storm) void request.then((answer) => answers.push(answer));
    while (answers.length < storm.length - 1) await pause(10);
    expect(answers.map(codeOf)).toEqual(Array.from({ length: 59 }, () => 'IDEMPOTENCY_KEY_IN_USE'));

    await tellToGoOn(key);
    const [first] = (await Promise.all(storm)).filter(({ status }) => status === 201);
    const later = await Promise.all(Array.from({ length: 30 }, (_, i) => pay(shops[i % 3]!, key)));
    expect(new Set(later.map(({ text }) => text))).toEqual(new Set([first!.text]));
    expect(later.every(isReplay)).toBe(true);
    expect(await charges(key)).toBe(1);
  }, 60_000);

  it('survive the one that is killed in the middle: its key is in use while its lease lasts, and then taken over', async () => {
    const [key, [victim, other]] = [newKey(), (await start(2)) as [AppProcess, AppProcess]];
    const first = pay(victim, key).catch(() => 'no answer');
    await victim.waitForLine(new RegExp(`charged ${key}`));
    victim.kill('SIGKILL');
    expect(await victim.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(await first).toBe('no answer');

    const early = await pay(other, key);
    expect([early.status, codeOf(early)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
    await letLeasePass(key);
    await tellToGoOn(key);
    const second = await pay(other, key);
    expect(json(second)).toMatchObject({ attempt: 2, by: other.pid });
    const third = await pay(other, key);
    expect([third.text, isReplay(third)]).toEqual([second.text, true]);
    // The charge that was made before the crash is there: plain mode can't undo it, and says so by the attempt.
    expect(await charges(key)).toBe(2);
  }, 60_000);

  it('survive one that was frozen: its answer is refused when it wakes up, and its client gets the new owner’s', async () => {
    const [key, [stale, other]] = [newKey(), (await start(2)) as [AppProcess, AppProcess]];
    const first = pay(stale, key);
    await stale.waitForLine(new RegExp(`charged ${key}`));
    stale.kill('SIGSTOP');
    await letLeasePass(key);
    await tellToGoOn(key);
    const second = await pay(other, key);
    expect(json(second)).toMatchObject({ attempt: 2, by: other.pid });

    stale.kill('SIGCONT');
    const late = await first;
    expect([late.status, late.text, isReplay(late)]).toEqual([201, second.text, true]);
    expect(stale.output()).toMatch(/event lock-lost/);
    expect(stale.output()).not.toMatch(/event completed/);
    expect(await recordOf(key)).toEqual({ state: 1, attempt: 2, body: second.text });
    for (const shop of [stale, other]) expect((await pay(shop, key)).text).toBe(second.text);
  }, 60_000);

  it('survive one that was frozen, while the new owner is still at work: 409 for the old one’s client', async () => {
    const [key, [stale, other]] = [newKey(), (await start(2)) as [AppProcess, AppProcess]];
    const first = pay(stale, key);
    await stale.waitForLine(new RegExp(`charged ${key}`));
    stale.kill('SIGSTOP');
    await letLeasePass(key);
    const second = pay(other, key);
    await other.waitForLine(new RegExp(`charged ${key}`));
    other.kill('SIGSTOP');
    await tellToGoOn(key);

    stale.kill('SIGCONT');
    const late = await first;
    expect([late.status, codeOf(late)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
    expect(await recordOf(key)).toMatchObject({ state: 0, attempt: 2 });
    other.kill('SIGCONT');
    expect(json(await second)).toMatchObject({ attempt: 2, by: other.pid });
    expect((await pay(stale, key)).text).toBe((await second).text);
  }, 60_000);

  it('give an answer that was committed and never left to the retry', async () => {
    const [key, [victim], [other]] = [newKey(), await start(1, { DIE_WHEN_COMPLETED: 'yes' }), await start(1)];
    await tellToGoOn(key);
    expect(await pay(victim!, key).catch(() => 'no answer')).toBe('no answer');
    expect(await victim!.exited).toEqual({ code: null, signal: 'SIGKILL' });

    const retry = await pay(other!, key);
    expect([retry.status, isReplay(retry)]).toEqual([201, true]);
    expect(json(retry)).toMatchObject({ attempt: 1, by: victim!.pid });
    expect(await charges(key)).toBe(1);
  }, 60_000);
});
