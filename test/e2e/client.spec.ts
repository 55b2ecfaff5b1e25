import { describe, expect, it } from '@jest/globals';
import { Body, Controller, Get, HttpCode, Param, Post, Res } from '@nestjs/common';
import { idempotentFetch, memoryKeyStore } from '../../lib/client/index.js';
import type { IdempotentFetchOptions, ReplayEvent, RetryEvent } from '../../lib/client/index.js';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { startFrailLine } from '../support/frail-line.js';
import type { FrailLine } from '../support/frail-line.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { bare } from './support/platform-response.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Stage, until } from './support/stage.js';

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

@Controller()
class Payments {
  @Idempotent({ required: true })
  @Post('payments/:order')
  pay(@Param('order') order: string, @Body() body: { readonly amount?: number }): object {
    return { order, amount: body.amount, payment: ledger.run(order) };
  }

  /** Waits until the test lets it go on. */
  @Idempotent({ required: true })
  @Post('slow-payments/:order')
  async paySlowly(@Param('order') order: string): Promise<object> {
    await stage.stopAt(order);
    return { order, payment: ledger.run(order) };
  }

  @Idempotent({ required: true })
  @HttpCode(409)
  @Post('sold-out/:order')
  soldOut(@Param('order') order: string): object {
    return { code: 'SOLD_OUT', run: ledger.run(order) };
  }

  /** Begins, and does not end. */
  @Get('endless/:order')
  endless(@Param('order') order: string, @Res() response: PlatformResponse): void {
    const answer = bare(response);
    answer.on('close', () => ledger.run(order));
    answer.write('first line\n');
  }
}

const json = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

interface Client {
  readonly call: ReturnType<typeof idempotentFetch>;
  readonly retries: RetryEvent[];
  readonly replays: ReplayEvent[];
}

/** Retries at once, where the server does not ask for a pause. */
function client(options: IdempotentFetchOptions = {}): Client {
  const retries: RetryEvent[] = [];
  const replays: ReplayEvent[] = [];
  const call = idempotentFetch({
    baseDelayMs: 1,
    onReplay: (event) => replays.push(event),
    ...options,
    onRetry: (event) => {
      retries.push(event);
      options.onRetry?.(event);
    },
  });
  return { call, retries, replays };
}

describe.each(PLATFORMS)('the client, with %s at the other end', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, options = {}): Promise<void> =>
    shared.within(platform, { controllers: [Payments], options }, (app) => work(app).finally(() => stage.openAll()));

  const overFrailLine = (work: (line: FrailLine, app: RunningApp) => Promise<void>): Promise<void> =>
    within(async (app) => {
      const line = await startFrailLine(app.url);
      try {
        await work(line, app);
      } finally {
        await line.close();
      }
    });

  const overProxy = (work: (proxy: TcpProxy) => Promise<void>, options = {}): Promise<void> =>
    within(async ({ url }) => {
      const proxy = await startTcpProxy(url);
      try {
        await work(proxy);
      } finally {
        stage.openAll();
        await proxy.close();
      }
    }, options);

  it.each([
    ['before its first byte', [0]],
    ['within its head', [40]],
    ['within its body', [-5]],
    ['again and again', [0, 12, -1, -20]],
  ])('gets an answer that was lost %s, by one effect', (_, breaks) =>
    overFrailLine(async (line) => {
      const order = newKey();
      const { call, retries, replays } = client();
      line.breakAfter(...breaks);
      const response = await call(`${line.url}/payments/${order}`, json({ amount: 4200 }));
      expect([response.status, await response.json()]).toEqual([201, { order, amount: 4200, payment: expect.any(Number) }]);
      expect(retries.map(({ reason }) => reason)).toEqual(breaks.map(() => 'network'));
      expect([replays.length, new Set(retries.map(({ key }) => key)).size, ledger.runs(order)]).toEqual([1, 1, 1]);
    }),
  );

  it.each(['problem', 'nest'] as const)(
    'waits for the first request if its connection was cut while the handler is at work, told so in the format %s',
    (errorFormat) =>
      overProxy(
        async (proxy) => {
          const order = newKey();
          const { call, retries, replays } = client({ onRetry: ({ reason }) => reason === 'in-use' && stage.open(order) });
          const answer = call(`${proxy.url}slow-payments/${order}`, json({}));
          await stage.reached(order);
          proxy.cut();
          proxy.restore();
          const response = await answer;
          expect([response.status, await response.json()]).toEqual([201, { order, payment: expect.any(Number) }]);
          expect(retries.map(({ reason }) => reason)).toEqual(['network', 'in-use', ...retries.slice(2).map(() => 'in-use')]);
          expect(retries[1]?.delayMs).toBeGreaterThanOrEqual(1000); // Retry-After: 1
          expect([replays.length, ledger.runs(order)]).toEqual([1, 1]);
        },
        { errorFormat },
      ),
  );

  it('gets the answer that was on its way when the network was lost: no byte of it came, and it is replayed', () =>
    overProxy(async (proxy) => {
      const order = newKey();
      const { call, replays } = client();
      const answer = call(`${proxy.url}slow-payments/${order}`, { ...json({}), idempotencyKey: order });
      await stage.reached(order);
      proxy.hang();
      stage.open(order);
      await until(async () => {
        const { rows } = await shared
          .database()
          .pool.query('select from idempotency_records where key = $1 and completed_at is not null', [order]);
        return rows.length === 1;
      });
      proxy.cut();
      proxy.restore();
      expect(await (await answer).json()).toEqual({ order, payment: expect.any(Number) });
      expect([replays.map(({ key }) => key), ledger.runs(order)]).toEqual([[order], 1]);
    }));

  it('gives a silent attempt up after its time-out, and asks again with the same key', () =>
    within(async ({ url }) => {
      const order = newKey();
      const { call, retries } = client({ attemptTimeoutMs: 500, onRetry: () => stage.open(order) });
      const response = await call(`${url}/slow-payments/${order}`, json({}));
      expect(await response.json()).toEqual({ order, payment: expect.any(Number) });
      expect([retries[0]?.reason, ledger.runs(order)]).toEqual(['timeout', 1]);
    }));

  it('goes on after a restart with the key in the store, and forgets it with the answer', () =>
    within(async ({ url }) => {
      const order = newKey();
      const keyStore = memoryKeyStore();
      const target = `${url}/slow-payments/${order}`;
      const leaving = new AbortController();
      const left = Promise.allSettled([client({ keyStore }).call(target, { ...json({}), intent: `pay ${order}`, signal: leaving.signal })]);
      await stage.reached(order);
      leaving.abort(); // the page is closed
      expect(await left).toMatchObject([{ reason: { name: 'AbortError' } }]);
      stage.open(order);

      const { call, replays } = client({ keyStore });
      const response = await call(target, { ...json({}), intent: `pay ${order}` });
      expect([response.status, replays.length, ledger.runs(order)]).toEqual([201, 1, 1]);
      await call(target, { ...json({}), intent: `pay ${order}` });
      expect(ledger.runs(order)).toBe(2); // answered: the next one of that name is another one
    }));

  it('lets two clicks at once pay once', () =>
    within(async ({ url }) => {
      const order = newKey();
      const { call, retries } = client({ onRetry: () => stage.open(order) });
      const pay = async (): Promise<unknown> => (await call(`${url}/slow-payments/${order}`, { ...json({}), intent: order })).json();
      const [first, second] = await Promise.all([pay(), pay()]);
      expect([second, ledger.runs(order), retries[0]?.reason]).toEqual([first, 1, 'in-use']);
    }));

  it('takes 400, 422, and a 409 that the handler means, for answers', () =>
    within(async ({ url }) => {
      const order = newKey();
      const { call, retries } = client();
      const init = { ...json({ amount: 1 }), idempotencyKey: order };
      expect((await call(`${url}/payments/${order}`, init)).status).toBe(201);
      const reused = await call(`${url}/payments/${order}`, { ...init, body: '{"amount":2}' });
      expect([reused.status, await reused.json()]).toEqual([422, expect.objectContaining({ code: 'IDEMPOTENCY_KEY_REUSED' })]);
      const invalid = await call(`${url}/payments/${order}`, { ...init, idempotencyKey: 'a, b' });
      expect([invalid.status, await invalid.json()]).toEqual([400, expect.objectContaining({ code: 'IDEMPOTENCY_KEY_INVALID' })]);
      const soldOut = await call(`${url}/sold-out/${order}`, json({}));
      expect([soldOut.status, await soldOut.json()]).toEqual([409, expect.objectContaining({ code: 'SOLD_OUT' })]);
      expect(retries).toEqual([]);
    }));

  it('sends a Request again with its body, and what can be sent only once but once', () =>
    overFrailLine(async (line) => {
      const order = newKey();
      const { call } = client();
      line.breakAfter(0, 0);
      const request = new Request(`${line.url}/payments/${order}`, json({ amount: 7 }));
      expect(await (await call(request)).json()).toMatchObject({ amount: 7 });
      expect(ledger.runs(order)).toBe(1);

      const once = newKey();
      line.breakAfter(0);
      const body = new Blob(['{"amount":8}']).stream() as unknown as ReadableStream;
      const sent = call(`${line.url}/payments/${once}`, { ...json({}), body, duplex: 'half' });
      await expect(sent).rejects.toMatchObject({ code: 'body-not-repeatable', attempts: 1, key: expect.any(String) });
      expect(ledger.runs(once)).toBe(1);
    }));

  it('tells with which key nobody could be reached', () =>
    overProxy(async (proxy) => {
      proxy.cut();
      const { call } = client({ attempts: 3 });
      const error = await call(`${proxy.url}payments/${newKey()}`, { ...json({}), idempotencyKey: 'mine' }).catch(
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({ name: 'IdempotentFetchError', code: 'network', attempts: 3, key: 'mine' });
    }));

  it('lets the caller end an answer that is still coming', () =>
    within(async ({ url }) => {
      const order = newKey();
      const controller = new AbortController();
      const { call } = client();
      const response = await call(`${url}/endless/${order}`, { signal: controller.signal });
      const reader = response.body?.getReader();
      expect(new TextDecoder().decode((await reader?.read())?.value)).toBe('first line\n');
      controller.abort();
      await expect(reader?.read()).rejects.toMatchObject({ name: 'AbortError' });
      await until(() => ledger.runs(order) === 1); // the server has seen it go
    }));
});
