import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from '@jest/globals';
import { IdempotentFetchError, localStorageKeyStore, memoryKeyStore } from '../../lib/client/index.js';
import type { KeyStore } from '../../lib/client/index.js';
import { atRest } from '../support/manual-clock.js';
import { barrier } from '../support/barrier.js';
import { networkError, refusal, scene } from './support/scripted-fetch.js';

const URL = 'http://shop.test/payments';
const post = { method: 'POST', body: '{"amount":4200}' };
const checkout = { ...post, intent: 'checkout:42' };
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const done = (): Response => new Response('{"payment":1}', { status: 201 });

describe('the key', () => {
  it('is a random UUID, another one for each call', async () => {
    const shop = scene([done()], { newKey: undefined });
    await shop.call(URL, post);
    await shop.call(URL, post);
    const [first, second] = shop.heard.map(({ key }) => key);
    expect([first, second]).toEqual([expect.stringMatching(UUID), expect.stringMatching(UUID)]);
    expect(second).not.toBe(first);
  });

  it('is a random UUID in an insecure context too, where the browser has no randomUUID', async () => {
    const own = Object.getOwnPropertyDescriptor(crypto, 'randomUUID');
    Object.defineProperty(crypto, 'randomUUID', { value: undefined, configurable: true });
    try {
      const shop = scene([done()], { newKey: undefined });
      for (let call = 0; call < 50; call += 1) await shop.call(URL, post);
      const keys = shop.heard.map(({ key }) => key);
      expect(keys).toEqual(keys.map(() => expect.stringMatching(UUID)));
      expect(new Set(keys).size).toBe(50);
    } finally {
      if (own === undefined) Reflect.deleteProperty(crypto, 'randomUUID');
      else Object.defineProperty(crypto, 'randomUUID', own);
    }
  });

  it.each([
    ['POST', 'key-1'],
    ['PUT', 'key-1'],
    ['PATCH', 'key-1'],
    ['delete', 'key-1'],
    ['GET', null],
    ['get', null],
    ['HEAD', null],
    ['OPTIONS', null],
    [undefined, null],
  ])('goes with methods that do something, and with no safe one: %s', async (method, key) => {
    const shop = scene([done()]);
    await shop.call(URL, method === undefined ? { intent: 'look' } : { method, intent: 'look' });
    expect(shop.heard.map((heard) => heard.key)).toEqual([key]);
  });

  it.each([
    ['an option', { ...checkout, idempotencyKey: 'mine' }, URL],
    ['a header', { ...checkout, headers: { 'idempotency-KEY': 'mine' } }, URL],
    ["a Request's header", { intent: 'checkout:42' }, new Request(URL, { ...post, headers: { 'Idempotency-Key': 'mine' } })],
    ['an option before a header', { ...post, headers: [['idempotency-key', 'other']], idempotencyKey: 'mine' } as const, URL],
    ['an option of a safe method', { idempotencyKey: 'mine' }, URL],
  ])("is the caller's own if there is one, and kept nowhere: %s", async (_, init, input) => {
    const keyStore = new Map<string, string>();
    const shop = scene([networkError(), done()], { keyStore });
    await Promise.all([shop.call(input, init as RequestInit), shop.clock.advance(1000)]);
    expect(shop.heard.map(({ key }) => key)).toEqual(['mine', 'mine']);
    expect(keyStore.size).toBe(0);
  });

  it('goes in the header that is asked for', async () => {
    const shop = scene([done()], { header: 'X-Request-Id' });
    await shop.call(URL, post);
    await shop.call(URL, { ...post, headers: { 'x-request-id': 'mine', 'content-type': 'application/json' } });
    expect(shop.heard.map(({ headers }) => Object.fromEntries(headers))).toEqual([
      { 'x-request-id': 'key-1' },
      { 'x-request-id': 'mine', 'content-type': 'application/json' },
    ]);
  });

  it.each(['', 'x'.repeat(256), 'schlüssel', 'two\nlines'])('that no server takes is refused, and nothing is sent: %j', async (key) => {
    const shop = scene([done()]);
    const error = await shop.call(URL, { ...post, idempotencyKey: key }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'IdempotentFetchError', code: 'key-invalid', attempts: 0 });
    expect(shop.heard).toEqual([]);
  });

  it('is on the error for whoever goes on with the call, and in nothing that is printed of it', async () => {
    for (const line of [networkError(), 'silence'] as const) {
      const shop = scene([line], { attempts: 2 });
      const [[{ reason }]] = (await Promise.all([
        Promise.allSettled([shop.call(URL, { ...post, idempotencyKey: 'very-secret' })]),
        shop.clock.advance(120_000),
      ])) as unknown as [[{ reason: IdempotentFetchError }]];
      expect(reason.key).toBe('very-secret');
      const printed = [String(reason), reason.message, inspect(reason, { depth: 9 }), JSON.stringify(reason), reason.stack];
      expect(printed.join('\n')).not.toContain('secret');
      expect(reason.message).toContain('try again with the same key');
    }
  });
});

describe('a call that has a name', () => {
  /** A shop after a reload: a new client on the same store. */
  const keys = (store: KeyStore, ...lines: Parameters<typeof scene>[0]) => scene(lines, { keyStore: store, attempts: 1 });

  it('has its key in the store before it is sent, and no longer when it is answered', async () => {
    const keyStore = new Map<string, string>();
    let kept: unknown;
    const shop = scene([], {
      keyStore,
      fetch: async () => {
        kept = [...keyStore];
        return done();
      },
    });
    await shop.call(URL, checkout);
    expect(kept).toEqual([['checkout:42', 'key-1']]);
    expect(keyStore.size).toBe(0);
  });

  it('goes on with the old key after a reload, and with a new one after its answer', async () => {
    const keyStore = memoryKeyStore();
    await expect(keys(keyStore, networkError()).call(URL, checkout)).rejects.toMatchObject({ code: 'network', key: 'key-1' });
    const later = scene([done()], { keyStore, newKey: () => 'key-2' });
    await later.call(URL, checkout);
    await later.call(URL, checkout);
    expect(later.heard.map(({ key }) => key)).toEqual(['key-1', 'key-2']);
  });

  it('has nothing to do with a call of another name, or of none', async () => {
    const keyStore = memoryKeyStore();
    const shop = scene([networkError()], { keyStore, attempts: 1 });
    for (const init of [checkout, { ...post, intent: 'checkout:43' }, post]) await shop.call(URL, init).catch(() => undefined);
    expect(shop.heard.map(({ key }) => key)).toEqual(['key-1', 'key-2', 'key-3']);
  });

  it.each([200, 201, 204, 302, 400, 404, 409, 410, 422])('is over with %s', async (status) => {
    const keyStore = new Map<string, string>();
    await keys(keyStore, new Response(null, { status })).call(URL, checkout);
    expect(keyStore.size).toBe(0);
  });

  it.each([
    ...[401, 403, 407, 408, 425, 429, 500, 501, 503].map((status) => [String(status), new Response('', { status })] as const),
    ['409 for a key in use', refusal(409, 'IDEMPOTENCY_KEY_IN_USE')],
    ['409 for an unknown outcome', refusal(409, 'IDEMPOTENCY_OUTCOME_UNKNOWN')],
    ['409 for an answer that was not kept', refusal(409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE')],
    ['422 for another request', refusal(422, 'IDEMPOTENCY_KEY_REUSED', {}, 'nest')],
  ] as const)('keeps its key after an answer that does not tell what became of it: %s', async (_, answer) => {
    const keyStore = new Map<string, string>();
    await keys(keyStore, answer).call(URL, checkout);
    expect([...keyStore]).toEqual([['checkout:42', 'key-1']]);
  });

  it('keeps its key while its answer has not come whole', async () => {
    const keyStore = new Map<string, string>();
    const broken = new ReadableStream({ pull: (controller) => controller.error(new TypeError('terminated')) });
    await expect(keys(keyStore, new Response(broken, { status: 201 })).call(URL, checkout)).rejects.toMatchObject({ code: 'network' });
    expect(keyStore.size).toBe(1);
  });

  it.each([
    ['streaming', { ...checkout, streaming: true }, done()],
    ['an event stream', checkout, new Response('data: 1\n\n', { headers: { 'content-type': 'text/event-stream; charset=utf-8' } })],
  ])('keeps its key when nobody waits for the end of the answer: %s', async (_, init, answer) => {
    const keyStore = new Map<string, string>();
    await keys(keyStore, answer).call(URL, init);
    expect(keyStore.size).toBe(1);
  });

  it('keeps its key when the caller aborts', async () => {
    const keyStore = new Map<string, string>();
    const controller = new AbortController();
    const outcome = Promise.allSettled([keys(keyStore, 'silence').call(URL, { ...checkout, signal: controller.signal })]);
    await atRest();
    controller.abort();
    await outcome;
    expect(keyStore.size).toBe(1);
  });

  it('has one key for two clicks at once, however slow the store is', async () => {
    const kept = new Map<string, string>();
    const slow: KeyStore = {
      get: async (intent) => (await atRest(), kept.get(intent)),
      set: async (intent, key) => (await atRest(), kept.set(intent, key)),
      delete: async (intent) => (await atRest(), kept.delete(intent)),
    };
    const both = barrier(2);
    const heard: (string | null)[] = [];
    const shop = scene([], {
      keyStore: slow,
      fetch: async (_, init) => {
        heard.push(new Headers(init?.headers).get('idempotency-key'));
        await both.arrive();
        return done();
      },
    });
    await Promise.all([shop.call(URL, checkout), shop.call(URL, checkout)]);
    expect(heard).toEqual(['key-1', 'key-1']);
    expect(kept.size).toBe(0);
  });

  it('does not take the key of the next one of its name away when it is late', async () => {
    const keyStore = new Map<string, string>();
    let answerLate: ((response: Response) => void) | undefined;
    const late = scene([], { keyStore, fetch: () => new Promise((resolve) => (answerLate = resolve)) });
    const first = late.call(URL, checkout);
    await atRest();
    await keys(keyStore, done()).call(URL, checkout);
    await scene([networkError()], { keyStore, attempts: 1, newKey: () => 'next' })
      .call(URL, checkout)
      .catch(() => undefined);
    answerLate?.(done());
    await first;
    expect([...keyStore]).toEqual([['checkout:42', 'next']]);
  });

  it.each(['get', 'set'] as const)('is not sent if its key cannot be kept: %s fails', async (method) => {
    const cause = new Error('no disk');
    const kept = over(new Map<string, string>());
    let faults = 1;
    const keyStore: KeyStore = {
      ...kept,
      [method]: (...given: [string, string]) => (faults-- > 0 ? Promise.reject(cause) : kept[method](...given)),
    };
    const shop = scene([done()], { keyStore });
    await expect(shop.call(URL, checkout)).rejects.toMatchObject({ code: 'key-store', attempts: 0, cause });
    expect(shop.heard).toEqual([]);
    await shop.call(URL, checkout); // the next one is none the worse for it
    expect(shop.heard).toHaveLength(1);
  });

  it('returns its answer even if its key cannot be deleted, or takes for ever', async () => {
    const failing = { ...over(new Map<string, string>()), delete: () => Promise.reject(new Error('no disk')) };
    expect((await scene([done()], { keyStore: failing }).call(URL, checkout)).status).toBe(201);
    const hanging = { ...over(new Map<string, string>()), delete: () => new Promise(() => undefined) };
    const shop = scene([done()], { keyStore: hanging, deadlineMs: 1000 });
    const [response] = await Promise.all([shop.call(URL, checkout), shop.clock.advance(1000)]);
    expect(response.status).toBe(201);
  });

  it('waits for its store no longer than its deadline, and as long as the caller does', async () => {
    const keyStore = { ...over(new Map<string, string>()), get: () => new Promise<string>(() => undefined) };
    const shop = scene([done()], { keyStore, deadlineMs: 1000 });
    const outcome = Promise.allSettled([shop.call(URL, checkout)]);
    await shop.clock.advance(1000);
    expect(await outcome).toMatchObject([{ reason: { code: 'deadline', attempts: 0 } }]);
    const reason = new Error('left the page');
    await expect(shop.call(URL, { ...checkout, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect([shop.heard.length, shop.clock.pending]).toEqual([0, 0]);
  });

  it('is remembered by one client by default, as long as that lives', async () => {
    const shop = scene([networkError(), done()], { attempts: 1 });
    await shop.call(URL, checkout).catch(() => undefined);
    await shop.call(URL, checkout);
    expect(shop.heard.map(({ key }) => key)).toEqual(['key-1', 'key-1']);
  });
});

describe('the store in localStorage', () => {
  const browser = globalThis as { localStorage?: unknown };
  const before = Object.getOwnPropertyDescriptor(browser, 'localStorage');
  const put = (descriptor: PropertyDescriptor): unknown =>
    Object.defineProperty(browser, 'localStorage', { configurable: true, ...descriptor });

  afterEach(() => {
    Reflect.deleteProperty(browser, 'localStorage');
    if (before !== undefined) Object.defineProperty(browser, 'localStorage', before);
  });

  /** What a page has, with room for so many entries. */
  class Storage {
    readonly entries = new Map<string, string>();
    constructor(public room = Infinity) {}
    getItem(name: string): string | null {
      return this.entries.get(name) ?? null;
    }
    setItem(name: string, value: string): void {
      if (this.entries.size >= this.room) throw new DOMException('full', 'QuotaExceededError');
      this.entries.set(name, value);
    }
    removeItem(name: string): void {
      this.entries.delete(name);
    }
  }

  it('keeps keys for the next page, under a prefix', () => {
    const storage = new Storage();
    put({ value: storage });
    localStorageKeyStore().set('checkout:42', 'key-1');
    localStorageKeyStore('shop/').set('checkout:42', 'key-2');
    expect([...storage.entries]).toEqual([
      ['idempotency-key:checkout:42', 'key-1'],
      ['shop/checkout:42', 'key-2'],
    ]);
    const [nextPage, other] = [localStorageKeyStore(), localStorageKeyStore('shop/')];
    expect([nextPage.get('checkout:42'), other.get('checkout:42')]).toEqual(['key-1', 'key-2']);
    nextPage.delete('checkout:42');
    expect([nextPage.get('checkout:42') ?? undefined, other.get('checkout:42')]).toEqual([undefined, 'key-2']);
  });

  it('forgets what another page has deleted', () => {
    const storage = new Storage();
    put({ value: storage });
    const store = localStorageKeyStore();
    store.set('checkout:42', 'key-1');
    storage.removeItem('idempotency-key:checkout:42');
    expect(store.get('checkout:42') ?? undefined).toBeUndefined();
  });

  it.each<[string, PropertyDescriptor]>([
    ['missing', { value: undefined }],
    ['null, as in some web views', { value: null }],
    [
      'forbidden',
      {
        get: () => {
          throw new DOMException('denied', 'SecurityError');
        },
      },
    ],
    ['full', { value: new Storage(0) }],
  ])('keeps keys in memory where storage is %s', (_, descriptor) => {
    put(descriptor);
    const store = localStorageKeyStore();
    expect(store.get('checkout:42') ?? undefined).toBeUndefined();
    store.set('checkout:42', 'key-1');
    expect(store.get('checkout:42')).toBe('key-1');
    store.delete('checkout:42');
    expect(store.get('checkout:42') ?? undefined).toBeUndefined();
  });

  it('does not bring an old key back when there is room again', () => {
    const storage = new Storage(0);
    put({ value: storage });
    const store = localStorageKeyStore();
    store.set('checkout:42', 'old');
    storage.room = 1;
    store.set('checkout:42', 'new');
    storage.removeItem('idempotency-key:checkout:42');
    expect(store.get('checkout:42') ?? undefined).toBeUndefined();
  });
});

/** The three methods of a Map, to be overridden one by one. */
function over(map: Map<string, string>): KeyStore {
  return { get: (intent) => map.get(intent), set: (intent, key) => map.set(intent, key), delete: (intent) => map.delete(intent) };
}
