import { Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { idempotentFetch } from '../../lib/client/index.js';
import { networkError, scene } from './support/scripted-fetch.js';

const URL_TEXT = 'http://shop.test/payments';
const done = (): Response => new Response('{"payment":1}', { status: 201 });
const form = (): FormData => {
  const made = new FormData();
  made.append('photo', new Blob(['bytes']), 'photo.png');
  return made;
};
const stream = (): ReadableStream => new Blob(['bytes']).stream() as unknown as ReadableStream;
const streamed = { method: 'POST', duplex: 'half' } as const;

describe('a body', () => {
  it.each<[string, NonNullable<RequestInit['body']>, string]>([
    ['text', 'text', 'text'],
    ['URLSearchParams', new URLSearchParams({ a: '1' }), 'a=1'],
    ['a Blob', new Blob(['bytes']), 'bytes'],
    ['bytes', new TextEncoder().encode('bytes'), 'bytes'],
    ['an ArrayBuffer', new TextEncoder().encode('bytes').buffer as ArrayBuffer, 'bytes'],
    ['FormData', form(), 'filename="photo.png"'],
  ])('that can be read again is sent again: %s', async (_, body, text) => {
    const shop = scene([networkError(), networkError(), done()]);
    await Promise.all([shop.call(URL_TEXT, { method: 'POST', body }), shop.clock.advance(1000)]);
    expect(shop.heard.map((heard) => heard.body)).toEqual(Array.from({ length: 3 }, () => expect.stringContaining(text)));
  });

  it.each<[string, () => unknown]>([
    ['a web stream', stream],
    ["a stream of Node's", () => Readable.from(['bytes'])],
    [
      'a generator',
      async function* bytes() {
        yield new TextEncoder().encode('bytes');
      },
    ],
  ])('that is a stream is sent once, and the error says so: %s', async (_, make) => {
    const body = make() as NonNullable<RequestInit['body']>;
    const shop = scene([networkError()]);
    const error = await shop.call(URL_TEXT, { ...streamed, body }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'body-not-repeatable', attempts: 1, key: 'key-1', cause: { message: 'fetch failed' } });
    expect((error as Error).message).toContain('stream');
    expect([shop.heard.length, shop.clock.pending]).toEqual([1, 0]);
  });

  it('that is a stream is not sent again after an answer neither, which the caller gets', async () => {
    const shop = scene([new Response('busy', { status: 503 })]);
    const response = await shop.call(URL_TEXT, { ...streamed, body: stream() });
    expect([shop.heard.length, response.status, await response.text()]).toEqual([1, 503, 'busy']);
  });
});

describe('a Request', () => {
  it('is sent again, with its body, headers and method, and can be used afterwards', async () => {
    const request = new Request(URL_TEXT, {
      method: 'PATCH',
      body: '{"amount":1}',
      headers: { 'x-shop': 'one', 'content-type': 'text/x' },
    });
    const shop = scene([networkError(), networkError(), done()]);
    await Promise.all([shop.call(request), shop.clock.advance(1000)]);
    expect(
      shop.heard.map(({ body, key, headers, input }) => [body, key, headers.get('x-shop'), headers.get('content-type'), input]),
    ).toEqual(
      Array.from({ length: 3 }, () => [
        '{"amount":1}',
        'key-1',
        'one',
        'text/x',
        expect.objectContaining({ method: 'PATCH', url: URL_TEXT }),
      ]),
    );
    expect([request.bodyUsed, request.headers.has('idempotency-key')]).toEqual([false, false]);
    expect(await request.text()).toBe('{"amount":1}');
  });

  it('made of a stream is sent again too: its copies share what was read', async () => {
    const shop = scene([networkError(), done()]);
    await Promise.all([shop.call(new Request(URL_TEXT, { ...streamed, body: stream() })), shop.clock.advance(1000)]);
    expect(shop.heard.map(({ body }) => body)).toEqual(['bytes', 'bytes']);
  });

  it('whose body was read before is refused, and nothing is sent', async () => {
    const request = new Request(URL_TEXT, { method: 'POST', body: 'text' });
    await request.text();
    const shop = scene([done()]);
    await expect(shop.call(request)).rejects.toMatchObject({ code: 'body-not-repeatable', attempts: 0 });
    expect(shop.heard).toEqual([]);
  });

  it('gives way to the options, as with fetch: headers replace its headers, a body its body', async () => {
    const request = new Request(URL_TEXT, { method: 'POST', body: 'text', headers: { 'x-shop': 'one' } });
    const shop = scene([done()]);
    await shop.call(request, { method: 'PUT', headers: { 'x-till': '7' }, body: 'other' });
    const [heard] = shop.heard;
    expect([heard?.body, heard?.headers.get('x-shop'), heard?.headers.get('x-till'), heard?.key, heard?.init.method]).toEqual([
      'other',
      null,
      '7',
      'key-1',
      'PUT',
    ]);
  });
});

describe('what is handed to fetch', () => {
  it("is what the caller gave, less this client's own words, and is not altered by it", async () => {
    const shop = scene([done()]);
    const headers = new Headers({ 'x-shop': 'one' });
    const given = {
      method: 'POST',
      body: 'text',
      headers,
      credentials: 'include',
      redirect: 'manual',
      intent: 'a',
      streaming: true,
    } as const;
    await shop.call(new URL(URL_TEXT), given);
    const [heard] = shop.heard;
    expect(heard?.init).toMatchObject({ method: 'POST', body: 'text', credentials: 'include', redirect: 'manual' });
    expect(Object.keys(heard?.init ?? {})).not.toEqual(expect.arrayContaining(['intent']));
    expect(Object.keys(heard?.init ?? {})).not.toEqual(expect.arrayContaining(['streaming']));
    expect(heard?.input).toEqual(new URL(URL_TEXT));
    expect([...headers.keys()]).toEqual(['x-shop']);
  });

  it('goes to the global fetch as it is when the call is made', async () => {
    const call = idempotentFetch();
    const before = globalThis.fetch;
    globalThis.fetch = async () => done();
    try {
      expect((await call(URL_TEXT, { method: 'POST' })).status).toBe(201);
    } finally {
      globalThis.fetch = before;
    }
  });

  it.each<[string, string, RequestInit]>([
    ['an address that is none', 'no address', {}],
    ['a GET with a body', URL_TEXT, { method: 'GET', body: 'text' }],
    ['a method that is none', URL_TEXT, { method: 'NO METHOD' }],
    ['a header that is none', URL_TEXT, { headers: { 'no header': 'x' } }],
  ])('is first looked at: what is no request fails at once with a TypeError, and is not tried five times: %s', async (_, url, init) => {
    const before = globalThis.fetch;
    let asked = 0;
    globalThis.fetch = () => ((asked += 1), Promise.reject(networkError()));
    try {
      await expect(idempotentFetch()(url, init)).rejects.toMatchObject({ name: 'TypeError' });
    } finally {
      globalThis.fetch = before;
    }
    expect(asked).toBe(0);
  });
});

describe('an answer', () => {
  it('to a request without a key is handed over at its head, and read by the caller', async () => {
    const body = new ReadableStream();
    const { call } = scene([], { fetch: async () => new Response(body) });
    expect((await call(URL_TEXT)).bodyUsed).toBe(false);
  });

  it('that the caller wants to stream is handed over at its head, and still ends with the signal', async () => {
    const controller = new AbortController();
    let signal: AbortSignal | null | undefined;
    const { call, clock } = scene([], { fetch: async (_, init) => ((signal = init?.signal), new Response(new ReadableStream())) });
    await call(URL_TEXT, { method: 'POST', streaming: true, signal: controller.signal });
    await clock.advance(600_000);
    expect(signal?.aborted).toBe(false);
    controller.abort();
    expect(signal?.aborted).toBe(true);
  });

  it('comes as well where signals cannot be joined, and the call ends with the signal', async () => {
    const own = Object.getOwnPropertyDescriptor(AbortSignal, 'any');
    Reflect.deleteProperty(AbortSignal, 'any');
    try {
      const controller = new AbortController();
      const shop = scene([done(), 'silence']);
      expect((await shop.call(URL_TEXT, { method: 'POST', signal: controller.signal })).status).toBe(201);
      const outcome = Promise.allSettled([shop.call(URL_TEXT, { method: 'POST', signal: controller.signal })]);
      await shop.clock.advance(10);
      controller.abort();
      expect(await outcome).toMatchObject([{ reason: { name: 'AbortError' } }]);
      expect(shop.heard[1]?.init.signal?.aborted).toBe(true);
    } finally {
      if (own !== undefined) Object.defineProperty(AbortSignal, 'any', own);
    }
  });

  it('is read whole, and can be read whole by the caller, however large it is', async () => {
    const bytes = new Uint8Array(3 * 1024 * 1024).fill(7);
    const shop = scene([new Response(bytes, { status: 201 })]);
    const response = await shop.call(URL_TEXT, { method: 'POST' });
    expect((await response.arrayBuffer()).byteLength).toBe(bytes.length);
  });
});
