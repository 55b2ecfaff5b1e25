import { beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { All, Body, Controller, HttpCode, Post } from '@nestjs/common';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;
const outcome = (answer: Answer): unknown => (answer.status === 422 ? codeOf(answer) : isReplay(answer) ? 'replay' : answer.status);

let released = Promise.resolve();

@Controller()
class Orders {
  @Post('orders')
  @Idempotent()
  order(@Body() body: unknown): object {
    return { run: ledger.run('order'), body };
  }

  @Post('orders/:id/items')
  @Idempotent()
  addItem(): object {
    return { run: ledger.run('item') };
  }

  @All('anything')
  @HttpCode(201)
  @Idempotent()
  anything(): object {
    return { run: ledger.run('anything') };
  }

  @Post('mutating')
  @Idempotent()
  mutate(@Body() body: { amount: number; lines?: unknown[] }): object {
    body.amount += 1;
    delete body.lines;
    return { run: ledger.run('mutate'), amount: body.amount };
  }

  @Post('chosen')
  @Idempotent({ fingerprint: async ({ body }) => Promise.resolve((body as { amount: number }).amount) })
  chosen(): object {
    return { run: ledger.run('chosen') };
  }

  @Post('references')
  @Idempotent({ keyFrom: { body: 'reference' }, fingerprint: ({ body }) => (body as { amount: number }).amount })
  reference(): object {
    return { run: ledger.run('reference') };
  }

  @Post('sealed')
  @Idempotent({ maxBodyBytes: 4 })
  sealed(): object {
    return { run: ledger.run('sealed') };
  }

  @Post('slow')
  @Idempotent()
  async slow(): Promise<object> {
    const run = ledger.run('slow');
    await released;
    return { run };
  }
}

describe.each(PLATFORMS)('what a retry must repeat on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Orders], create: { logger: journal } });
  });
  beforeEach(() => {
    journal.lines.length = 0;
  });

  const JSON_TYPE = 'application/json';
  /** What a second request with the same key gets. */
  const second = async (path: string, first: Sent, then: Sent & { readonly path?: string }): Promise<unknown> => {
    const key = newKey();
    const answer = await send(`${app.url}${path}`, { key, ...first });
    expect([outcome(answer), await shared.records(key)]).toEqual([201, 1]);
    return outcome(await send(`${app.url}${then.path ?? path}`, { key, ...then }));
  };

  it.each<[what: string, path: string, first: Sent, then: Sent & { readonly path?: string }]>([
    ['another value in the body', '/orders', { body: { amount: 1 } }, { body: { amount: 2 } }],
    ['a number for a text', '/orders', { body: { amount: 1 } }, { body: { amount: '1' } }],
    ['one member more', '/orders', { body: { amount: 1 } }, { body: { amount: 1, tip: null } }],
    ['another order of a list', '/orders', { body: { lines: [1, 2] } }, { body: { lines: [2, 1] } }],
    ['no body', '/orders', { body: { amount: 1 } }, {}],
    ['a body where there was none', '/orders', {}, { body: {} }],
    ['another query', '/orders?a=1', {}, { path: '/orders?a=2' }],
    ['no query', '/orders?a=1', {}, { path: '/orders' }],
    ['another order of one query name', '/orders?a=1&a=2', {}, { path: '/orders?a=2&a=1' }],
    ['another path parameter', '/orders/1/items', {}, { path: '/orders/2/items' }],
    ['another method', '/anything', {}, { method: 'PUT' }],
    [
      'another media type',
      '/orders',
      { body: 'a=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      { body: { a: '1' } },
    ],
    [
      'another parameter of the media type',
      '/orders',
      { body: '{}', headers: { 'content-type': JSON_TYPE } },
      { body: '{}', headers: { 'content-type': `${JSON_TYPE}; profile=x` } },
    ],
  ])('is refused with 422: %s', async (_what, path, first, then) => {
    const before = ledger.total;
    expect(await second(path, first, then)).toBe('IDEMPOTENCY_KEY_REUSED');
    expect(ledger.total).toBe(before + 1);
  });

  it.each<[what: string, path: string, first: Sent, then: Sent & { readonly path?: string }]>([
    ['members in another order', '/orders', { body: { a: 1, b: { c: [1], d: 2 } } }, { body: { b: { d: 2, c: [1] }, a: 1 } }],
    [
      'JSON with other spaces',
      '/orders',
      { body: '{"a":1}', headers: { 'content-type': JSON_TYPE } },
      { body: '{ "a" : 1.0 }', headers: { 'content-type': JSON_TYPE } },
    ],
    ['query names in another order', '/orders?a=1&b=2', {}, { path: '/orders?b=2&a=1' }],
    [
      'the media type in another spelling',
      '/orders',
      { body: '{}', headers: { 'content-type': 'application/json; charset=utf-8; profile=x' } },
      { body: '{}', headers: { 'content-type': 'Application/JSON;profile="x";Charset=UTF-8' } },
    ],
    [
      'other headers',
      '/orders',
      { body: {}, headers: { 'user-agent': 'one' } },
      { body: {}, headers: { 'user-agent': 'two', accept: 'text/plain' } },
    ],
  ])('is replayed: %s', async (_what, path, first, then) => {
    expect(await second(path, first, then)).toBe('replay');
  });

  it('is taken before the handler can change the body', async () => {
    const sent = { key: newKey(), body: { amount: 1, lines: [1, 2] } };
    expect(json(await send(`${app.url}/mutating`, sent))).toMatchObject({ amount: 2 });
    expect(isReplay(await send(`${app.url}/mutating`, sent))).toBe(true);
    expect(codeOf(await send(`${app.url}/mutating`, { ...sent, body: { amount: 2 } }))).toBe('IDEMPOTENCY_KEY_REUSED');
  });

  it('is what a function says, beside method and path', async () => {
    expect(await second('/chosen', { body: { amount: 1, note: 'a' } }, { body: { amount: 1, note: 'b' } })).toBe('replay');
    expect(await second('/chosen', { body: { amount: 1 } }, { body: { amount: 2 } })).toBe('IDEMPOTENCY_KEY_REUSED');
  });

  it('is what a function says alone for a natural key', async () => {
    const reference = newKey();
    const refer = (amount: number, note: string): Promise<Answer> => send(`${app.url}/references`, { body: { reference, amount, note } });
    expect([outcome(await refer(1, 'a')), outcome(await refer(1, 'b')), outcome(await refer(2, 'a'))]).toEqual([
      201,
      'replay',
      'IDEMPOTENCY_KEY_REUSED',
    ]);
  });

  it('is compared before the state: 422 for another request while the first one runs', async () => {
    const key = newKey();
    let release!: () => void;
    released = new Promise((resolve) => (release = resolve));
    const before = ledger.runs('slow');
    const first = send(`${app.url}/slow`, { key, body: { a: 1 } });
    while (ledger.runs('slow') === before) await new Promise((resolve) => setImmediate(resolve));
    const [other, same] = [await send(`${app.url}/slow`, { key, body: { a: 2 } }), await send(`${app.url}/slow`, { key, body: { a: 1 } })];
    release();
    expect([codeOf(other), codeOf(same), (await first).status]).toEqual(['IDEMPOTENCY_KEY_REUSED', 'IDEMPOTENCY_KEY_IN_USE', 201]);
  });

  it('is compared before the state: 422 for another request when the first one is sealed', async () => {
    const key = newKey();
    expect((await send(`${app.url}/sealed`, { key, body: { a: 1 } })).status).toBe(201);
    expect(codeOf(await send(`${app.url}/sealed`, { key, body: { a: 2 } }))).toBe('IDEMPOTENCY_KEY_REUSED');
    expect(codeOf(await send(`${app.url}/sealed`, { key, body: { a: 1 } }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('is another digest under another secret, which only owners of the secret can make', async () => {
    const sent = { key: newKey(), body: { pin: 1234 } };
    const digests: string[] = [];
    for (const fingerprintSecret of [undefined, 's'.repeat(32), 't'.repeat(32)]) {
      const options = fingerprintSecret === undefined ? {} : { fingerprintSecret };
      await shared.within(platform, { controllers: [Orders], options }, async ({ url }) => {
        expect([outcome(await send(`${url}/orders`, sent)), outcome(await send(`${url}/orders`, sent))]).toEqual([201, 'replay']);
      });
      const { rows } = await shared
        .database()
        .pool.query<{ digest: string }>('delete from idempotency_records where key = $1 returning fingerprint::text as digest', [sent.key]);
      digests.push(...rows.map(({ digest }) => digest));
    }
    expect(new Set(digests).size).toBe(3);
  });

  describe('of content that nothing parses', () => {
    const TEXT = { 'content-type': 'text/csv' };

    /** Fastify refuses a type it has no parser for; so one that leaves the content unread, as Express does by itself. */
    const leaveUnread = (nest: RunningApp['app']): void => {
      if (platform === 'fastify') fastify(nest).addContentTypeParser('text/csv', (_request, payload, done) => done(null, payload));
    };

    it('cannot be told: 500 without a run, and the remedy in the log', async () => {
      await shared.within(platform, { controllers: [Orders], configure: leaveUnread, create: { logger: journal } }, async ({ url }) => {
        const [key, before] = [newKey(), ledger.total];
        const answer = await send(`${url}/orders`, { key, headers: TEXT, body: 'top secret' });
        expect([answer.status, codeOf(answer), ledger.total, await shared.records(key)]).toEqual([
          500,
          'IDEMPOTENCY_REQUEST_UNREADABLE',
          before,
          0,
        ]);
        expect(journal.own('error').join('\n')).toMatch(/Orders\.order: .*body parser.*rawBody/);
        expect(answer.text).not.toMatch(/parser|rawBody/);
        expect(journal.lines.join('\n')).not.toMatch(new RegExp(`top secret|${key}`));
      });
    });

    it('is its bytes once they are kept', async () => {
      const configure = (nest: RunningApp['app']): void => {
        const parsers = nest as unknown as { useBodyParser(...args: unknown[]): void };
        if (platform === 'express') parsers.useBodyParser('raw', { type: 'text/csv' });
        else parsers.useBodyParser('text/csv');
      };
      await shared.within(platform, { controllers: [Orders], configure, create: { rawBody: true } }, async ({ url }) => {
        const key = newKey();
        const post = (body: string): Promise<Answer> => send(`${url}/orders`, { key, headers: TEXT, body });
        expect([outcome(await post('a;b')), outcome(await post('a;b')), outcome(await post('a; b'))]).toEqual([
          201,
          'replay',
          'IDEMPOTENCY_KEY_REUSED',
        ]);
      });
    });
  });

  it('never runs twice for one key', async () => {
    const key = newKey();
    const runs = new Set<unknown>();
    for (let round = 0; round < 5; round++) runs.add(runOf(await send(`${app.url}/orders`, { key, body: { a: 1 } })));
    expect(runs.size).toBe(1);
  });
});

interface ParserRegistry {
  addContentTypeParser(type: string, parse: (request: unknown, payload: unknown, done: (error: null, body: unknown) => void) => void): void;
}

function fastify(nest: RunningApp['app']): ParserRegistry {
  return nest.getHttpAdapter().getInstance() as ParserRegistry;
}
