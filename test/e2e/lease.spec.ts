import { describe, expect, it } from '@jest/globals';
import { Controller, Headers, Post } from '@nestjs/common';
import { CurrentExecution, Idempotent, IdempotencyEvents } from '../../lib/index.js';
import type { IdempotencyEvent, IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, json, send } from './support/wire.js';

const LEASE_PASSED = `locked_until = statement_timestamp() - interval '1 second'`;

const shared = bench();

async function lockedUntil(key: string): Promise<number | undefined> {
  const { rows } = await shared
    .database()
    .pool.query<{ at: number }>('select extract(epoch from locked_until)::float8 as at from idempotency_records where key = $1', [key]);
  return rows[0]?.at;
}

/** What each attempt of a key has at hand, for the test to look at. */
const executions = new Map<string, IdempotentExecution>();
const stage = new Stage();
const ledger = new Ledger();

abstract class Slow {
  protected async work(key: string, execution: IdempotentExecution): Promise<object> {
    const cue = `${key}#${execution.attempt}`;
    executions.set(cue, execution);
    const run = ledger.run(key);
    await stage.stopAt(cue);
    return { run, attempt: execution.attempt };
  }
}

@Controller()
class Payments extends Slow {
  @Idempotent()
  @Post('payments')
  pay(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    return this.work(key, execution);
  }

  @Idempotent({ lockTtl: '1s' })
  @Post('short')
  short(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    return this.work(key, execution);
  }

  @Idempotent({ onLostExecution: 'reject' })
  @Post('careful')
  careful(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    return this.work(key, execution);
  }
}

describe.each(PLATFORMS)('the lease of a running execution on %s', (platform) => {
  const parts = { controllers: [Payments] };

  it('is renewed while the handler runs for longer than it lasts', () =>
    shared.within(platform, parts, async ({ url }) => {
      const key = newKey();
      const first = send(`${url}/short`, { key });
      await stage.reached(`${key}#1`);
      const claimed = (await lockedUntil(key)) ?? Infinity;
      await until(async () => ((await lockedUntil(key)) ?? 0) > claimed + 1);

      expect(codeOf(await send(`${url}/short`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(`${key}#1`);
      expect(json(await first)).toMatchObject({ attempt: 1 });
      expect(isReplay(await send(`${url}/short`, { key }))).toBe(true);
      expect(ledger.runs(key)).toBe(1);
    }));

  it('that has passed, with nobody in its place, costs a late owner nothing', () =>
    shared.within(platform, parts, async ({ url }) => {
      const key = newKey();
      const first = send(`${url}/payments`, { key });
      await stage.reached(`${key}#1`);
      await shared.alter(key, LEASE_PASSED);
      stage.open(`${key}#1`);

      const answer = await first;
      expect(answer.status).toBe(201);
      const again = await send(`${url}/payments`, { key });
      expect(isReplay(again)).toBe(true);
      expect(again.text).toBe(answer.text);
    }));

  it('that has passed does not make this very process run the handler a second time', () =>
    shared.within(platform, parts, async ({ url }) => {
      const key = newKey();
      const first = send(`${url}/payments`, { key });
      await stage.reached(`${key}#1`);
      await shared.alter(key, LEASE_PASSED);
      expect(codeOf(await send(`${url}/payments`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(`${key}#1`);
      await first;
      expect(ledger.runs(key)).toBe(1);
    }));
});

describe.each(PLATFORMS)('a superseded owner on %s', (platform) => {
  const parts = { controllers: [Payments] };

  /** One process stalls with the key, and another one takes it over. */
  async function stalled(
    work: (stalled: {
      key: string;
      first: ReturnType<typeof send>;
      other: string;
      events: IdempotencyEvent[];
      journal: Journal;
    }) => Promise<void>,
  ): Promise<void> {
    const journal = new Journal();
    await shared.within(platform, { ...parts, create: { logger: journal } }, async (mine) => {
      const events: IdempotencyEvent[] = [];
      mine.app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
      await shared.within(platform, { ...parts, create: { logger: journal } }, async (other) => {
        const key = newKey();
        const first = send(`${mine.url}/payments`, { key });
        await stage.reached(`${key}#1`);
        await shared.alter(key, LEASE_PASSED);
        await work({ key, first, other: other.url, events, journal }).finally(() => stage.openAll());
      });
    });
  }

  it('answers with what the new owner has done, as a replay, and its own answer is gone', () =>
    stalled(async ({ key, first, other, events, journal }) => {
      const second = send(`${other}/payments`, { key });
      await stage.reached(`${key}#2`);
      stage.open(`${key}#2`);
      const answer = await second;
      expect(json(answer)).toMatchObject({ attempt: 2 });
      expect(isReplay(answer)).toBe(false);

      stage.open(`${key}#1`);
      const late = await first;
      expect([late.status, late.text, isReplay(late)]).toEqual([201, answer.text, true]);
      expect((await send(`${other}/payments`, { key })).text).toBe(answer.text);
      expect(events.map(({ type }) => type)).toEqual(['claimed', 'lock-lost', 'replayed']);
      expect(journal.own('warn')).toContainEqual(expect.stringMatching(/superseded.*Payments\.pay/));
      expect(journal.lines.join('\n')).not.toContain(key);
    }));

  it('answers 409 while the new owner is still at work, whose answer then stands', () =>
    stalled(async ({ key, first, other }) => {
      const second = send(`${other}/payments`, { key });
      await stage.reached(`${key}#2`);
      stage.open(`${key}#1`);
      const late = await first;
      expect([late.status, codeOf(late)]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
      expect(late.headers['retry-after']).toEqual(['1']);
      expect(late.headers['content-type']).toEqual([expect.stringMatching(/^application\/problem\+json/)]);

      stage.open(`${key}#2`);
      expect(json(await second)).toMatchObject({ attempt: 2 });
      expect(json(await send(`${other}/payments`, { key }))).toMatchObject({ attempt: 2 });
    }));

  it('frees nothing: a failure that comes late leaves the new owner’s key alone', () =>
    stalled(async ({ key, first, other }) => {
      const second = send(`${other}/payments`, { key });
      await stage.reached(`${key}#2`);
      stage.fail(`${key}#1`, new Error('too late'));
      expect((await first).status).toBe(409);
      expect(codeOf(await send(`${other}/payments`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(`${key}#2`);
      expect((await second).status).toBe(201);
    }));
});

describe.each(PLATFORMS)('an execution that learns at a renewal that it was superseded on %s', (platform) => {
  it('has its signal aborted while the handler still runs, and says so once', () =>
    shared.within(platform, { controllers: [Payments] }, async (mine) => {
      const events: IdempotencyEvent[] = [];
      mine.app.get(IdempotencyEvents).events$.subscribe((event) => events.push(event));
      const key = newKey();
      const first = send(`${mine.url}/short`, { key });
      await stage.reached(`${key}#1`);
      const { signal } = executions.get(`${key}#1`)!;
      expect(signal.aborted).toBe(false);

      // What a take-over by another process does to the row.
      await shared.alter(key, `owner = gen_random_uuid(), attempt = 2, locked_until = statement_timestamp() + interval '1 hour'`);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      stage.open(`${key}#1`);
      expect(codeOf(await first)).toBe('IDEMPOTENCY_KEY_IN_USE');
      expect(events.filter(({ type }) => type === 'lock-lost')).toHaveLength(1);
    }));
});

describe.each(PLATFORMS)('onLostExecution: reject on %s', (platform) => {
  it('refuses to run again what was interrupted, until somebody has looked', () =>
    shared.within(platform, { controllers: [Payments] }, async (mine) =>
      shared.within(platform, { controllers: [Payments] }, async (other) => {
        const key = newKey();
        const first = send(`${mine.url}/careful`, { key });
        await stage.reached(`${key}#1`);
        await shared.alter(key, LEASE_PASSED);
        const refused = await send(`${other.url}/careful`, { key });
        expect([refused.status, codeOf(refused), refused.headers['retry-after']]).toEqual([409, 'IDEMPOTENCY_OUTCOME_UNKNOWN', undefined]);
        stage.open(`${key}#1`);
        expect((await first).status).toBe(201); // it was only late
        expect(isReplay(await send(`${other.url}/careful`, { key }))).toBe(true);
        expect(ledger.runs(key)).toBe(1);
      }),
    ));
});
