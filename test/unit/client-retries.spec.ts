import { describe, expect, it } from '@jest/globals';
import { IdempotentFetchError, idempotentFetch } from '../../lib/client/index.js';
import type { IdempotentFetchOptions } from '../../lib/client/index.js';
import { atRest } from '../support/manual-clock.js';
import { networkError, refusal, scene } from './support/scripted-fetch.js';
import type { Line, Scene } from './support/scripted-fetch.js';

const URL = 'http://shop.test/payments';
const post = { method: 'POST', body: '{"amount":4200}' };
const done = (): Response => new Response('{"payment":1}', { status: 201 });
const minutes = (count: number): number => count * 60_000;

/** Calls, and lets time pass until there is nothing to wait for. */
async function settled({ call, clock }: Scene, init: Parameters<Scene['call']>[1] = post): Promise<PromiseSettledResult<Response>> {
  const [outcome] = await Promise.all([Promise.allSettled([call(URL, init)]), clock.advance(minutes(5))]);
  expect(clock.pending).toBe(0);
  return outcome[0];
}

async function answered(on: Scene, init?: Parameters<Scene['call']>[1]): Promise<Response> {
  const outcome = await settled(on, init);
  if (outcome.status === 'rejected') throw outcome.reason;
  return outcome.value;
}

async function failed(on: Scene, init?: Parameters<Scene['call']>[1]): Promise<IdempotentFetchError> {
  const outcome = await settled(on, init);
  if (outcome.status === 'fulfilled') throw new Error(`There is an answer: ${outcome.value.status}`);
  expect(outcome.reason).toBeInstanceOf(IdempotentFetchError);
  return outcome.reason as IdempotentFetchError;
}

describe('what is tried again', () => {
  const again: [string, () => Line][] = [
    ['a network error', networkError],
    ['no answer in time', () => 'silence'],
    ['an answer that breaks off', () => brokenAnswer(201)],
    ['408', () => new Response('', { status: 408 })],
    ['409 for a key in use', () => refusal(409, 'IDEMPOTENCY_KEY_IN_USE')],
    ["409 for a key in use, in Nest's format", () => refusal(409, 'IDEMPOTENCY_KEY_IN_USE', {}, 'nest')],
    ['409 that breaks off before it tells why', () => brokenAnswer(409)],
    ...[425, 429, 500, 502, 503, 504, 507, 529].map((status): [string, () => Line] => [String(status), () => new Response('', { status })]),
  ];

  it.each(again)('is %s, with the same key, until there is an answer', async (_, line) => {
    const shop = scene([line(), line(), done()]);
    const response = await answered(shop);
    expect([response.status, await response.text()]).toEqual([201, '{"payment":1}']);
    expect(shop.heard.map(({ key, body }) => [key, body])).toEqual(Array.from({ length: 3 }, () => ['key-1', post.body]));
  });

  const answers: [string, () => Response][] = [
    ...[200, 201, 204, 302, 304, 400, 401, 403, 404, 409, 410, 412, 422, 428, 501, 505, 511].map((status): [string, () => Response] => [
      String(status),
      () => new Response(status === 204 || status === 304 ? null : 'told', { status }),
    ]),
    ['400 for a key that is invalid', () => refusal(400, 'IDEMPOTENCY_KEY_INVALID')],
    ['409 for an unknown outcome', () => refusal(409, 'IDEMPOTENCY_OUTCOME_UNKNOWN')],
    ['409 for an answer that was not kept', () => refusal(409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE')],
    ["409 of the handler's own", () => refusal(409, 'SOLD_OUT')],
    ['409 whose body is no object', () => new Response('null', { status: 409 })],
    ['422 for a key that was used before', () => refusal(422, 'IDEMPOTENCY_KEY_REUSED')],
  ];

  it.each(answers)('is not %s: it is returned at once, and its body is still to be read', async (_, answer) => {
    const shop = scene([answer()]);
    const response = await answered(shop);
    expect([shop.heard.length, response.status, await response.text()]).toEqual([1, answer().status, await answer().text()]);
  });

  it('is a safe method too, without a key', async () => {
    const shop = scene([networkError(), new Response('', { status: 503 }), done()]);
    expect((await answered(shop, { method: 'get' })).status).toBe(201);
    expect(shop.heard.map(({ key }) => key)).toEqual([null, null, null]);
  });

  it('is the last answer if it is no better than the others: the caller gets it', async () => {
    const shop = scene([networkError(), new Response('busy', { status: 503 })]);
    const response = await answered(shop);
    expect([shop.heard.length, response.status, await response.text()]).toEqual([5, 503, 'busy']);
  });

  it('is told as an error if the last attempt had no answer, though an earlier one had: that one says nothing about the last', async () => {
    const shop = scene([new Response('', { status: 503 }), networkError()]);
    expect(await failed(shop)).toMatchObject({ code: 'network', attempts: 5, key: 'key-1', cause: { message: 'fetch failed' } });
  });
});

describe('how long is waited', () => {
  it('grows from a random part of 250 ms to one of 20 s (full jitter)', async () => {
    const shop = scene([networkError()], { attempts: 10, random: () => 0.5, deadlineMs: Infinity });
    expect(await failed(shop)).toMatchObject({ code: 'network', attempts: 10 });
    expect(shop.retries.map(({ delayMs }) => delayMs)).toEqual([125, 250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    const pauses = shop.times().map((time, at, times) => time - (times[at - 1] ?? 0));
    expect(pauses).toEqual([0, ...shop.retries.map(({ delayMs }) => delayMs)]);
  });

  it.each([
    [0, [0, 0, 0, 0]],
    [0.999, [249.75, 499.5, 999, 1998]],
  ])('is all of it by chance: %s', async (chance, delays) => {
    const shop = scene([networkError()], { random: () => chance });
    await failed(shop);
    expect(shop.retries.map(({ delayMs }) => delayMs)).toEqual(delays);
  });

  const HOUR_ONE = 'Thu, 01 Jan 1970 01:00:00 GMT';
  it.each<[string, Record<string, string>, number]>([
    ['seconds', { 'retry-after': '3' }, 3000],
    ['no seconds', { 'retry-after': '0' }, 0],
    ["a date, by the server's clock", { 'retry-after': 'Thu, 01 Jan 1970 01:00:07 GMT', date: HOUR_ONE }, 7000],
    ["a date, by the client's clock where the server's is not told", { 'retry-after': 'Thu, 01 Jan 1970 00:00:09 GMT' }, 9000],
    ['a date that has passed', { 'retry-after': 'Thu, 01 Jan 1970 00:59:00 GMT', date: HOUR_ONE }, 0],
    ['neither', { 'retry-after': 'soon' }, 0],
    ['a date that is none', { 'retry-after': 'tomorrow, GMT' }, 0],
    ['a fraction, which is neither', { 'retry-after': '1.5' }, 0],
    ['an empty field', { 'retry-after': '' }, 0],
  ])('is at least what Retry-After asks for, and then some: %s', async (_, headers, waitMs) => {
    for (const answer of [new Response('', { status: 503, headers }), refusal(409, 'IDEMPOTENCY_KEY_IN_USE', headers)]) {
      const shop = scene([answer, done()]);
      expect((await answered(shop)).status).toBe(201);
      expect(shop.times()).toEqual([0, waitMs + 125]);
    }
  });

  it.each(['120', '99999999999999999999', 'Fri, 02 Jan 1970 00:00:00 GMT'])(
    'is nothing if Retry-After leads beyond the deadline (%s): the answer is returned at once',
    async (retryAfter) => {
      const shop = scene([new Response('', { status: 429, headers: { 'retry-after': retryAfter } })]);
      const { status } = await shop.call(URL, post);
      expect([status, shop.clock.now(), shop.clock.pending]).toEqual([429, 0, 0]);
    },
  );

  it('is nothing for a wait that no timer can keep, even without a deadline', async () => {
    const shop = scene([new Response('', { status: 503, headers: { 'retry-after': '2592000' } })], { deadlineMs: Infinity });
    expect((await shop.call(URL, post)).status).toBe(503);
  });
});

describe('the limits', () => {
  it('of one attempt ends it, and tries again', async () => {
    const shop = scene(['silence', 'silence', done()], { attemptTimeoutMs: 2000 });
    expect((await answered(shop)).status).toBe(201);
    expect(shop.times()).toEqual([0, 2125, 4375]);
    expect(shop.heard.map(({ init }) => init.signal?.aborted)).toEqual([true, true, false]);
    expect(shop.retries.map(({ reason }) => reason)).toEqual(['timeout', 'timeout']);
  });

  it('of the attempts are the last word on a server that is silent', async () => {
    const shop = scene(['silence'], { attempts: 3, attemptTimeoutMs: 2000 });
    expect(await failed(shop)).toMatchObject({ code: 'timeout', attempts: 3, key: 'key-1' });
  });

  it('of one attempt holds for a fetch that does not listen to its signal, and for a body that does not end', async () => {
    const deaf = scene([], { attempts: 1, attemptTimeoutMs: 2000, fetch: () => new Promise(() => undefined) });
    expect(await failed(deaf)).toMatchObject({ code: 'timeout', attempts: 1 });
    const endless = scene([new Response(new ReadableStream(), { status: 201 })], { attempts: 1, attemptTimeoutMs: 2000 });
    expect(await failed(endless)).toMatchObject({ code: 'timeout', attempts: 1 });
  });

  it('of the whole call ends an attempt that is under way', async () => {
    const shop = scene([networkError(), 'silence'], { deadlineMs: 3000 });
    const error = await failed(shop);
    expect(error).toMatchObject({ code: 'deadline', attempts: 2, key: 'key-1' });
    expect(shop.heard[1]?.init.signal?.aborted).toBe(true);
  });

  it('of the whole call does not wait for a turn that will not come', async () => {
    const shop = scene([networkError()], { deadlineMs: 1000 });
    const outcome = Promise.allSettled([shop.call(URL, post)]);
    await shop.clock.advance(125 + 250 + 500);
    expect(await outcome).toMatchObject([{ reason: { code: 'deadline', attempts: 4, cause: { message: 'fetch failed' } } }]);
    expect([shop.clock.now(), shop.clock.pending]).toEqual([875, 0]);
  });

  it('are the same for every call, however many there were before', async () => {
    const shop = scene([done(), networkError(), done()]);
    await answered(shop);
    await answered(shop);
    expect(shop.heard.map(({ key }) => key)).toEqual(['key-1', 'key-2', 'key-2']);
  });

  it.each<[IdempotentFetchOptions, string]>([
    [{ attempts: 0 }, 'attempts'],
    [{ attempts: Number.NaN }, 'attempts'],
    [{ baseDelayMs: -1 }, 'baseDelayMs'],
    [{ maxDelayMs: Number.NaN }, 'maxDelayMs'],
    [{ attemptTimeoutMs: -1 }, 'attemptTimeoutMs'],
    [{ deadlineMs: Number.NaN }, 'deadlineMs'],
    [{ header: 'Idempotency Key' }, 'Idempotency Key'],
  ])('and other options are checked when the client is made: %j', (options, named) => {
    expect(() => idempotentFetch(options)).toThrow(expect.objectContaining({ name: 'TypeError', message: expect.stringContaining(named) }));
  });
});

describe("the caller's signal", () => {
  /** Counts what listens to it. */
  function counted(): { readonly controller: AbortController; listeners(): number } {
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...added: Parameters<typeof addEventListener>) => ((listeners += 1), addEventListener.apply(signal, added));
    signal.removeEventListener = (...gone: Parameters<typeof removeEventListener>) => (
      (listeners -= 1),
      removeEventListener.apply(signal, gone)
    );
    return { controller, listeners: () => listeners };
  }

  const moments: [string, Line, number][] = [
    ['while an answer is awaited', 'silence', 10],
    ['during the pause', networkError(), 10],
    ['while the body is read', new Response(new ReadableStream(), { status: 201 }), 10],
    ['while the reason of a 409 is read', new Response(new ReadableStream(), { status: 409 }), 10],
  ];

  it.each(moments)('ends the call at once with its reason %s', async (_, line, atMs) => {
    const { controller, listeners } = counted();
    const shop = scene([line]);
    const outcome = Promise.allSettled([shop.call(URL, { ...post, signal: controller.signal })]);
    await shop.clock.advance(atMs);
    const reason = new Error('left the page');
    controller.abort(reason);
    expect(await outcome).toEqual([{ status: 'rejected', reason }]);
    expect([shop.heard.length, shop.clock.pending, listeners()]).toEqual([1, 0, 0]);
    await shop.clock.advance(minutes(5));
    expect(shop.heard).toHaveLength(1);
  });

  it('gives an AbortError where it gives no reason, as with fetch', async () => {
    const controller = new AbortController();
    const shop = scene(['silence']);
    const outcome = Promise.allSettled([shop.call(new Request(URL, { ...post, signal: controller.signal }))]);
    await atRest();
    controller.abort();
    expect(await outcome).toMatchObject([{ reason: { name: 'AbortError' } }]);
  });

  it('that is aborted already keeps everything from being sent', async () => {
    const shop = scene([done()]);
    const reason = new Error('left the page');
    await expect(shop.call(URL, { ...post, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect([shop.heard.length, shop.clock.pending]).toEqual([0, 0]);
  });

  it('is let go of when the call is over, however it ended', async () => {
    for (const line of [done(), new Response('', { status: 503 }), networkError()]) {
      const { controller, listeners } = counted();
      await settled(scene([networkError(), line]), { ...post, signal: controller.signal });
      expect(listeners()).toBe(0);
    }
  });

  it('of null in the options takes the one of the Request away, as with fetch', async () => {
    const shop = scene([done()]);
    const request = new Request(URL, { ...post, signal: AbortSignal.abort() });
    expect((await shop.call(request, { signal: null })).status).toBe(201);
  });
});

describe('the hooks', () => {
  it('are told before each pause what went wrong', async () => {
    const busy = new Response('', { status: 503 });
    const shop = scene([networkError(), 'silence', busy, refusal(409, 'IDEMPOTENCY_KEY_IN_USE'), done()]);
    await answered(shop);
    expect(shop.retries).toEqual([
      { attempt: 1, delayMs: 125, reason: 'network', cause: networkError(), key: 'key-1' },
      { attempt: 2, delayMs: 250, reason: 'timeout', cause: expect.objectContaining({ name: 'AbortError' }), key: 'key-1' },
      { attempt: 3, delayMs: 500, reason: 'status', status: 503, key: 'key-1' },
      { attempt: 4, delayMs: 1000, reason: 'in-use', status: 409, key: 'key-1' },
    ]);
  });

  it('are told of a replay, and of nothing else', async () => {
    const replays: unknown[] = [];
    const onReplay = (event: unknown): unknown => replays.push(event);
    await answered(scene([done()], { onReplay }));
    await answered(scene([new Response('', { headers: { 'idempotent-replayed': 'false' } })], { onReplay }));
    expect(replays).toEqual([]);
    const replayed = new Response('{"payment":1}', { status: 201, headers: { 'idempotent-replayed': 'true' } });
    const response = await answered(scene([networkError(), replayed], { onReplay }));
    expect(replays).toEqual([{ key: 'key-1', response }]);
    expect(await response.text()).toBe('{"payment":1}');
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('in the hook');
      },
    ],
    ['rejects', () => Promise.reject(new Error('in the hook'))],
  ])('do not disturb the call when one %s', async (_, hook) => {
    const replayed = new Response('', { status: 201, headers: { 'idempotent-replayed': 'true' } });
    const reported: unknown[] = [];
    const browser = globalThis as { reportError?: (error: unknown) => void };
    browser.reportError = (error) => reported.push(error);
    try {
      expect((await answered(scene([networkError(), replayed], { onRetry: hook, onReplay: hook }))).status).toBe(201);
    } finally {
      delete browser.reportError;
    }
    expect(reported).toEqual([new Error('in the hook'), new Error('in the hook')]);
    expect((await answered(scene([networkError(), replayed], { onRetry: hook, onReplay: hook }))).status).toBe(201);
  });
});

/** The head comes, and half of the body. */
function brokenAnswer(status: number): Response {
  let pulls = 0;
  const body = new ReadableStream({
    pull(controller) {
      pulls += 1;
      if (pulls === 1) controller.enqueue(new TextEncoder().encode('{"pay'));
      else controller.error(new TypeError('terminated'));
    },
  });
  return new Response(body, { status });
}
