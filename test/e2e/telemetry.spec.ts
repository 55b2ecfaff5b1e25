/** What OpenTelemetry gets to hear of real requests: exact counts, the right span, and no key in clear. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Body, ConflictException, Controller, Headers, Post } from '@nestjs/common';
import { Idempotent, IdempotencyEvents } from '../../lib/index.js';
import { observeIdempotency } from '../../lib/telemetry/index.js';
import { PLATFORMS } from '../support/app.js';
import { Meters, Spans } from '../support/telemetry.js';
import { bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, send } from './support/wire.js';

/** What a crash leaves behind. */
const LOST = `state = 0, owner = gen_random_uuid(), locked_until = statement_timestamp() - interval '1 second',
  completed_at = null, expires_at = null, status = null, headers = null, body = null`;

const SCOPE = 'customer-of-ours';

const shared = bench();
const stage = new Stage();

@Controller()
class Payments {
  @Idempotent({ required: true })
  @Post('payments')
  pay(): object {
    return { paid: true };
  }

  @Idempotent({ onDuplicate: 'wait', waitTimeout: 50 })
  @Post('slow')
  async slow(@Headers('idempotency-key') key: string): Promise<object> {
    await stage.stopAt(key);
    return { paid: true };
  }

  @Idempotent({ atomic: true, storeIf: () => false })
  @Post('undone')
  undone(@Body() { fails }: { fails?: boolean }): object {
    if (fails) throw new ConflictException();
    return { paid: true };
  }
}

const parts = { controllers: [Payments], options: { scope: () => SCOPE } };

describe.each(PLATFORMS)('telemetry on %s', (platform) => {
  const spans = new Spans();
  let meters: Meters;
  let stop: () => void;

  beforeAll(() => spans.open());
  afterAll(() => spans.close());
  beforeEach(() => {
    meters = new Meters();
    stop = observeIdempotency({ meterProvider: meters.provider, digests: true }); // as much as there is to be told
  });
  afterEach(() => {
    stop();
    spans.forget();
  });

  const within = (work: (url: string) => Promise<void>): Promise<void> =>
    shared.within(platform, { ...parts, configure: (app) => spans.watch(app.getHttpServer()) }, ({ url }) => work(url));

  it('counts a request, its replay, a refusal and a take-over: one each', () =>
    within(async (url) => {
      const key = newKey();
      await send(`${url}/payments`, { key, body: { amount: 1 } });
      expect(isReplay(await send(`${url}/payments`, { key, body: { amount: 1 } }))).toBe(true);
      expect(codeOf(await send(`${url}/payments`, { key, body: { amount: 2 } }))).toBe('IDEMPOTENCY_KEY_REUSED');
      await shared.alter(key, LOST);
      expect(isReplay(await send(`${url}/payments`, { key, body: { amount: 1 } }))).toBe(false);

      const handler = { 'idempotency.handler': 'Payments.pay' };
      expect(await meters.series('idempotency.requests')).toEqual([
        { attributes: { ...handler, 'idempotency.outcome': 'claimed' }, value: 1 },
        { attributes: { ...handler, 'idempotency.outcome': 'replayed' }, value: 1 },
        { attributes: { ...handler, 'idempotency.outcome': 'rejected', 'error.type': 'IDEMPOTENCY_KEY_REUSED' }, value: 1 },
        { attributes: { ...handler, 'idempotency.outcome': 'taken-over' }, value: 1 },
      ]);
      expect(await meters.byOutcome('idempotency.executions')).toEqual({ completed: 2 });
      expect(await meters.byOutcome('idempotency.claim.duration')).toEqual({ claimed: 1, replayed: 1, 'taken-over': 1 });
      expect(await meters.total('idempotency.handler.duration')).toBe(2);
      expect(await meters.total('idempotency.completion.duration')).toBe(2);
      expect(await meters.total('idempotency.active_executions')).toBe(0);
      expect(await meters.total('idempotency.store.failures')).toBe(0);

      await until(() => spans.finished.length === 4);
      const said = JSON.stringify([await meters.all(), spans.finished.map(({ attributes, events }) => [attributes, events])]);
      expect(said).toContain('Payments.pay');
      expect(said).not.toContain(key);
      expect(said).not.toContain(SCOPE);
    }));

  it('tells the span of the very request, though others are under way', () =>
    within(async (url) => {
      const [one, other] = [newKey(), newKey()];
      const first = send(`${url}/slow`, { key: one });
      await stage.reached(one);
      await send(`${url}/payments`, { key: other });
      await send(`${url}/payments`, { key: other });
      await send(`${url}/payments`);
      stage.open(one);
      await first;

      await until(() => spans.finished.length === 4); // a span ends with its connection, a little after the answer
      const told = spans.finished.map(({ name, attributes, events }) => [
        name,
        attributes['idempotency.outcome'],
        events.map((event) => event.name.replace('idempotency.', '')),
      ]);
      expect(told).toHaveLength(4);
      expect(told).toEqual(
        expect.arrayContaining([
          ['/payments', 'claimed', ['claimed', 'completed']],
          ['/payments', 'replayed', ['replayed']],
          ['/payments', 'rejected', ['rejected']],
          ['/slow', 'claimed', ['claimed', 'completed']],
        ]),
      );
    }));

  it('shows an execution that is at work, and times a request that waits for it', () =>
    within(async (url) => {
      const key = newKey();
      const first = send(`${url}/slow`, { key });
      await stage.reached(key);
      expect(await meters.series('idempotency.active_executions')).toEqual([
        { attributes: { 'idempotency.handler': 'Payments.slow' }, value: 1 },
      ]);
      expect(codeOf(await send(`${url}/slow`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(key);
      await first;
      expect(await meters.byOutcome('idempotency.wait.duration')).toEqual({ rejected: 1 });
      expect(await meters.total('idempotency.active_executions')).toBe(0);
    }));

  it('comes back to zero when an atomic execution is rolled back', () =>
    within(async (url) => {
      await send(`${url}/undone`, { key: newKey() });
      await send(`${url}/undone`, { key: newKey(), body: { fails: true } });
      expect(await meters.byOutcome('idempotency.executions')).toEqual({ released: 2 });
      expect(await meters.total('idempotency.active_executions')).toBe(0);
    }));
});

describe.each(PLATFORMS)('without telemetry on %s', (platform) => {
  it('not one event is made', () =>
    shared.within(platform, parts, async ({ app, url }) => {
      const emit = jest.spyOn(app.get(IdempotencyEvents), 'emit');
      const key = newKey();
      await send(`${url}/payments`, { key });
      await send(`${url}/payments`, { key });
      await send(`${url}/payments`);
      expect(emit).not.toHaveBeenCalled();
      const stop = observeIdempotency({ meterProvider: new Meters().provider });
      await send(`${url}/payments`, { key });
      stop();
      await send(`${url}/payments`, { key });
      expect(emit).toHaveBeenCalledTimes(1);
    }));
});
