import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { Idempotent, IdempotencyService } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Stage } from './support/stage.js';
import { isReplay, json, send } from './support/wire.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

/** Notes a run down: how many there were for that key. */
function runOf(key: string): number {
  ledger.run(key);
  return ledger.runs(key);
}

const EXPIRED = `expires_at = statement_timestamp() - interval '1 second', reap_after = statement_timestamp() - interval '1 second'`;

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  pay(@Headers('idempotency-key') key: string): object {
    return { run: runOf(key) };
  }

  @Idempotent()
  @Post('slow')
  async slow(@Headers('idempotency-key') key: string): Promise<object> {
    await stage.stopAt(key);
    return { run: runOf(key) };
  }
}

const parts = { controllers: [Payments] };

describe.each(PLATFORMS)('IdempotencyService on %s', (platform) => {
  const other = { scope: '', key: 'no-such-key' };

  it('finds a record, in each of its states, without its answer', () =>
    shared.within(platform, parts, async ({ app, url }) => {
      const service = app.get(IdempotencyService);
      const key = newKey();
      const first = send(`${url}/slow`, { key });
      await stage.reached(key);
      expect(await service.find({ scope: '', key })).toMatchObject({
        state: 'running',
        scope: '',
        operation: '',
        key,
        attempt: 1,
        lockedUntil: expect.any(Date),
      });
      await shared.alter(key, `locked_until = statement_timestamp() - interval '1 second'`);
      expect(await service.find({ scope: '', key })).toMatchObject({ state: 'lost' });
      stage.open(key);
      await first;
      const record = await service.find({ scope: '', key });
      expect(record).toMatchObject({ state: 'completed', status: 201, completedAt: expect.any(Date), expiresAt: expect.any(Date) });
      expect(record).not.toHaveProperty('lockedUntil');
      await shared.alter(key, EXPIRED);
      expect(await service.find({ scope: '', key })).toBeUndefined();
      expect(await service.find(other)).toBeUndefined();
    }));

  it('forgets a record, so that its key is free, but none that is live', () =>
    shared.within(platform, parts, async ({ app, url }) => {
      const service = app.get(IdempotencyService);
      const key = newKey();
      const first = send(`${url}/slow`, { key });
      await stage.reached(key);
      await expect(service.forget({ scope: '', key })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
      stage.open(key);
      await first;
      expect(await service.forget({ scope: '', key })).toBe(true);
      expect(await service.forget({ scope: '', key })).toBe(false);
      expect(await service.forget(other)).toBe(false);
      expect(json(await send(`${url}/slow`, { key }))).toEqual({ run: 2 });
    }));

  it('forgets one scope, and nobody else’s', () =>
    shared.within(platform, { ...parts, options: { scope: ({ headers }) => headers?.['x-tenant'] as string } }, async ({ app, url }) => {
      const key = newKey();
      for (const tenant of ['a', 'b']) await send(`${url}/payments`, { key, headers: { 'x-tenant': tenant } });
      expect(await app.get(IdempotencyService).forgetScope('a')).toBe(1);
      expect(isReplay(await send(`${url}/payments`, { key, headers: { 'x-tenant': 'a' } }))).toBe(false);
      expect(isReplay(await send(`${url}/payments`, { key, headers: { 'x-tenant': 'b' } }))).toBe(true);
      await app.get(IdempotencyService).forgetScope('a');
      await app.get(IdempotencyService).forgetScope('b');
    }));

  it('counts what there is, and reaps what has expired', () =>
    shared
      .within(platform, parts, async ({ app, url }) => {
        const service = app.get(IdempotencyService);
        await shared.database().pool.query('delete from idempotency_records');
        const [done, expired, lost, running] = [newKey(), newKey(), newKey(), newKey()];
        for (const key of [done, expired]) await send(`${url}/payments`, { key });
        const slow = [lost, running].map((key) => send(`${url}/slow`, { key }));
        await Promise.all([lost, running].map((key) => stage.reached(key)));
        await shared.alter(expired, EXPIRED);
        await shared.alter(lost, `locked_until = '2020-01-01 00:00:00Z'`);
        expect(await service.stats()).toEqual({
          running: 1,
          lost: 1,
          completed: 1,
          sealed: 0,
          open: 0,
          expired: 1,
          oldestLost: new Date('2020-01-01T00:00:00Z'),
        });
        expect(await service.reap()).toBe(1);
        expect(await service.reap()).toBe(0);
        expect(await service.stats()).toMatchObject({ completed: 1, expired: 0, running: 1, lost: 1 });
        for (const key of [lost, running]) stage.open(key);
        await Promise.all(slow);
      })
      .finally(() => stage.openAll()));
});
