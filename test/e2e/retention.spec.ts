import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { Idempotent, IdempotencyEvents, IdempotencyService } from '../../lib/index.js';
import type { IdempotencyEvent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
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

  @Idempotent({ ttl: '48h' })
  @Post('slow')
  async slow(@Headers('idempotency-key') key: string): Promise<object> {
    await stage.stopAt(key);
    return { run: runOf(key) };
  }
}

const parts = { controllers: [Payments] };

describe.each(PLATFORMS)('an expired key on %s', (platform) => {
  it('is free at once, reaped or not, for the same request as for another one', () =>
    shared.within(platform, parts, async ({ url }) => {
      for (const body of [{}, { other: true }]) {
        const key = newKey();
        expect(json(await send(`${url}/payments`, { key, body: {} }))).toEqual({ run: 1 });
        await shared.alter(key, EXPIRED);
        const later = await send(`${url}/payments`, { key, body });
        expect([json(later), isReplay(later)]).toEqual([{ run: 2 }, false]);
        const replay = await send(`${url}/payments`, { key, body });
        expect([json(replay), isReplay(replay)]).toEqual([{ run: 2 }, true]);
        expect(await shared.records(key)).toBe(1);
      }
    }));

  it('counts from the completion, not from the claim', () =>
    shared.within(platform, parts, async ({ app, url }) => {
      const key = newKey();
      const first = send(`${url}/slow`, { key });
      await stage.reached(key);
      await shared.alter(key, `created_at = created_at - interval '40 hours', reap_after = reap_after - interval '40 hours'`);
      stage.open(key);
      await first;
      const record = await app.get(IdempotencyService).find({ scope: '', key });
      expect(record!.expiresAt!.getTime() - record!.completedAt!.getTime()).toBe(48 * 3_600_000);
      expect(record!.completedAt!.getTime() - record!.createdAt.getTime()).toBeGreaterThanOrEqual(40 * 3_600_000);
    }));
});

describe.each(PLATFORMS)('the reaper on %s', (platform) => {
  it('removes what has expired in bites, tells how much, and touches nothing else', () =>
    shared
      .within(platform, parts, async (writer) => {
        const [expired, kept, running] = [Array.from({ length: 7 }, newKey), newKey(), newKey()];
        for (const key of [...expired, kept]) await send(`${writer.url}/payments`, { key });
        for (const key of expired) await shared.alter(key, EXPIRED);
        const slow = send(`${writer.url}/slow`, { key: running });
        await stage.reached(running);
        await shared.alter(
          running,
          `reap_after = statement_timestamp() - interval '1 hour', locked_until = statement_timestamp() - interval '1 hour'`,
        );

        const events: IdempotencyEvent[] = [];
        await shared.within(platform, { ...parts, options: { reaper: { every: '1s', batch: 3 } } }, async ({ app }) => {
          app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
          await until(() => events.some(({ type }) => type === 'reaped'));
        });
        expect(events).toMatchObject([{ type: 'reaped', removed: 7 }]);
        for (const key of expired) expect(await shared.records(key)).toBe(0);
        expect(isReplay(await send(`${writer.url}/payments`, { key: kept }))).toBe(true);
        stage.open(running);
        expect((await slow).status).toBe(201);
      })
      .finally(() => stage.openAll()));
});
