import { beforeAll, describe, expect, it } from '@jest/globals';
import { Body, Controller, Param, Post, Version, VersioningType } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const once = (what: string): { run: number } => ({ run: ledger.run(what) });
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;

const reference = (context: ExecutionContext): string | undefined =>
  context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>().headers['x-reference'];

@Controller()
class Shop {
  @Post('payments')
  @Idempotent()
  pay(): object {
    return once('pay');
  }

  @Post('orders')
  @Idempotent()
  order(): object {
    return once('order');
  }

  @Post('required')
  @Idempotent({ required: true })
  required(): object {
    return once('required');
  }

  @Post('execution')
  @Idempotent()
  execution(@CurrentExecution() execution: IdempotentExecution): object {
    return {
      ...once('execution'),
      hasKey: execution.key !== undefined,
      key: execution.key ?? null,
      scope: execution.scope,
      attempt: execution.attempt,
    };
  }

  @Post('uuid')
  @Idempotent({ keyFormat: 'uuid' })
  uuid(): object {
    return once('uuid');
  }

  @Post('pattern')
  @Idempotent({ keyFormat: /^pay_\d+$/g })
  pattern(): object {
    return once('pattern');
  }

  @Post('predicate')
  @Idempotent({ keyFormat: (key) => key.startsWith('ü') || key.length % 2 === 0 })
  predicate(): object {
    return once('predicate');
  }

  @Post('aliases')
  @Idempotent({ keyFrom: { header: ['X-Request-Key', 'Idempotency-Key'] } })
  aliases(): object {
    return once('aliases');
  }

  @Post('orders/:id/capture')
  @Idempotent({ keyFrom: { param: 'id' } })
  capture(@Param('id') _id: string): object {
    return once('capture');
  }

  @Post('orders/:id/refund')
  @Idempotent({ keyFrom: { param: 'id' } })
  refund(@Param('id') _id: string): object {
    return once('refund');
  }

  @Post('events')
  @Idempotent({ keyFrom: { body: 'event.id' } })
  event(@Body() _body: unknown): object {
    return once('event');
  }

  @Post('required-event')
  @Idempotent({ keyFrom: { body: 'event.id' }, required: true })
  requiredEvent(): object {
    return once('required-event');
  }

  @Post('function')
  @Idempotent({ keyFrom: reference })
  byFunction(): object {
    return once('function');
  }

  @Post('transfers/:id')
  @Idempotent({ keyFrom: { param: 'id' }, operation: 'transfer' })
  transfer(): object {
    return once('transfer');
  }

  @Post('moved/transfers/:id')
  @Idempotent({ keyFrom: { param: 'id' }, operation: 'transfer' })
  movedTransfer(): object {
    return once('transfer');
  }

  @Post('own-space')
  @Idempotent({ operation: 'own space' })
  ownSpace(): object {
    return once('own-space');
  }
}

@Controller('books')
class Versions {
  @Post(':id/lend')
  @Version('1')
  @Idempotent({ keyFrom: { param: 'id' } })
  lend(): object {
    return once('lend v1');
  }

  @Post(':id/lend')
  @Version('2')
  @Idempotent({ keyFrom: { param: 'id' } })
  lendAnew(): object {
    return once('lend v2');
  }
}

describe.each(PLATFORMS)('the key of a request on %s', (platform) => {
  let app: RunningApp;
  const post = (path: string, sent?: Sent): Promise<Answer> => send(`${app.url}${path}`, sent);

  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Shop] });
  });

  it.each([
    ['plain', 'abc', '"abc"'],
    ['with spaces inside', 'with space', '"with space"'],
    ['with quotes inside', 'say "hi"', '"say \\"hi\\""'],
    ['with a backslash', 'back\\slash', '"back\\\\slash"'],
    ['with what looks like a parameter', 'a;b=c', '"a;b=c"'],
    ['of 255 characters', 'k'.repeat(255), `"${'k'.repeat(255)}"`],
  ])('is the same one bare and quoted: %s', async (_what, bare, quoted) => {
    const first = await post('/payments', { key: bare });
    const second = await post('/payments', { key: quoted });
    const third = await post('/payments', { key: bare });
    expect([first.status, second.status, third.status]).toEqual([201, 201, 201]);
    expect([isReplay(second), isReplay(third)]).toEqual([true, true]);
    expect([runOf(second), runOf(third)]).toEqual([runOf(first), runOf(first)]);
    await shared.database().pool.query('delete from idempotency_records where key = $1', [bare]); // the other platform uses the same keys
  });

  it('may have a comma in quotes, and only there', async () => {
    const key = `${newKey()},b`;
    expect((await post('/payments', { key: `"${key}"` })).status).toBe(201);
    expect(isReplay(await post('/payments', { key: `"${key}"` }))).toBe(true);
    expect(codeOf(await post('/payments', { key }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('is compared by case', async () => {
    const key = `a${newKey()}`;
    expect(runOf(await post('/payments', { key }))).not.toBe(runOf(await post('/payments', { key: key.toUpperCase() })));
  });

  it.each<[what: string, headers: Sent['headers']]>([
    ['two fields', { 'idempotency-key': ['a', 'b'] }],
    ['two equal fields', { 'idempotency-key': ['a', 'a'] }],
    ['a list', { 'idempotency-key': 'a, b' }],
    ['a list of quoted ones', { 'idempotency-key': '"a", "b"' }],
    ['a bare key with a comma', { 'idempotency-key': 'a,b' }],
    ['parameters behind a quoted key', { 'idempotency-key': '"a";p=1' }],
    ['text behind a quoted key', { 'idempotency-key': '"a" b' }],
    ['a quote that does not close', { 'idempotency-key': '"abc' }],
    ['an escape that there is not', { 'idempotency-key': '"a\\n"' }],
    ['an empty field', { 'idempotency-key': '' }],
    ['an empty quoted key', { 'idempotency-key': '""' }],
    ['256 characters', { 'idempotency-key': 'k'.repeat(256) }],
    ['256 quoted characters', { 'idempotency-key': `"${'k'.repeat(256)}"` }],
    ['characters outside ASCII', { 'idempotency-key': 'cl\u00e9' }],
    ['a control character', { 'idempotency-key': 'a\tb' }],
  ])('is invalid with %s, and nothing runs', async (_what, headers) => {
    const before = ledger.total;
    const answer = await post('/payments', { headers: headers ?? {} });
    expect(answer.status).toBe(400);
    expect(codeOf(answer)).toBe('IDEMPOTENCY_KEY_INVALID');
    expect(ledger.total).toBe(before);
  });

  it('may come in any of the accepted headers, but in one only', async () => {
    const key = newKey();
    const first = await post('/aliases', { headers: { 'x-request-key': key } });
    const second = await post('/aliases', { headers: { 'idempotency-key': `"${key}"` } });
    expect([isReplay(second), runOf(second)]).toEqual([true, runOf(first)]);
    expect(codeOf(await post('/aliases', { headers: { 'x-request-key': key, 'idempotency-key': key } }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('is looked for in the headers that the module names', async () => {
    await shared.within(platform, { controllers: [Shop], options: { header: ['X-Key', 'X-Old-Key'] } }, async ({ url }) => {
      const key = newKey();
      const first = await send(`${url}/payments`, { headers: { 'x-key': key } });
      const second = await send(`${url}/payments`, { headers: { 'x-old-key': key } });
      expect([isReplay(second), runOf(second)]).toEqual([true, runOf(first)]);
      const unnamed = await send(`${url}/payments`, { key });
      expect(runOf(unnamed)).not.toBe(runOf(first));
    });
  });

  it('is a UUID where only UUIDs are accepted', async () => {
    const key = newKey();
    expect((await post('/uuid', { key })).status).toBe(201);
    expect(isReplay(await post('/uuid', { key: `"${key}"` }))).toBe(true);
    expect(codeOf(await post('/uuid', { key: `${key}0` }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('fits the RegExp each time it is asked, also one with the flag g', async () => {
    const key = `pay_${Date.now()}`;
    for (let round = 0; round < 3; round++) expect((await post('/pattern', { key })).status).toBe(201);
    expect(codeOf(await post('/pattern', { key: 'pay_x' }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('is what a predicate accepts', async () => {
    expect((await post('/predicate', { key: newKey() })).status).toBe(201);
    expect(codeOf(await post('/predicate', { key: 'odd' }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('is missed with 400 where it is required', async () => {
    const before = ledger.total;
    const answer = await post('/required');
    expect([answer.status, codeOf(answer), ledger.total]).toEqual([400, 'IDEMPOTENCY_KEY_REQUIRED', before]);
    expect((json(answer) as { detail: string }).detail).toContain('Idempotency-Key');
    expect((await post('/required', { key: newKey() })).status).toBe(201);
  });

  it('is not missed elsewhere: the handler runs each time and has no key', async () => {
    const [first, second] = [await post('/execution'), await post('/execution')];
    expect(json(first)).toMatchObject({ hasKey: false, scope: '', attempt: 1 });
    expect(runOf(second)).not.toBe(runOf(first));
    expect([isReplay(first), isReplay(second)]).toEqual([false, false]);
  });

  it('is told to the handler as it is, without its quotes', async () => {
    const key = newKey();
    expect(json(await post('/execution', { key: `"${key}"` }))).toMatchObject({ key, attempt: 1 });
  });

  it('in a header is one space for all routes: on another one it is another request', async () => {
    const key = newKey();
    expect((await post('/payments', { key })).status).toBe(201);
    const other = await post('/orders', { key });
    expect([other.status, codeOf(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    expect((await post('/own-space', { key })).status).toBe(201);
  });

  it('in a parameter is the route’s own: the same id is captured once and refunded once', async () => {
    const id = newKey();
    const captured = await post(`/orders/${id}/capture`, { body: { note: 1 } });
    const refunded = await post(`/orders/${id}/refund`);
    expect([captured.status, refunded.status]).toEqual([201, 201]);
    const again = await post(`/orders/${id}/capture`, { body: { note: 2 } }); // the key alone says what it is
    expect([isReplay(again), runOf(again)]).toEqual([true, runOf(captured)]);
    expect(runOf(refunded)).not.toBe(runOf(captured));
    expect((await post(`/orders/${newKey()}/capture`)).headers['idempotent-replayed']).toBeUndefined();
  });

  it('in a body is found by its path, and a number counts as its digits', async () => {
    const id = Number.parseInt(newKey().replaceAll('-', '').slice(0, 12), 16);
    const first = await post('/events', { body: { event: { id } } });
    const second = await post('/events', { body: { event: { id: String(id) }, attempt: 2 } });
    expect([first.status, isReplay(second), runOf(second)]).toEqual([201, true, runOf(first)]);
  });

  it.each<[what: string, id: unknown]>([
    ['an object', {}],
    ['a list', ['a']],
    ['an empty text', ''],
    ['a fraction', 1.5],
    ['a number that JSON can’t tell from others', 2 ** 53],
    ['a truth', true],
    ['256 characters', 'k'.repeat(256)],
  ])('in a body is invalid as %s', async (_what, id) => {
    expect(codeOf(await post('/events', { body: { event: { id } } }))).toBe('IDEMPOTENCY_KEY_INVALID');
  });

  it('in a body may be missing, unless it is required', async () => {
    const [first, second] = [await post('/events', { body: { event: {} } }), await post('/events', { body: { event: {} } })];
    expect(runOf(second)).not.toBe(runOf(first));
    expect(codeOf(await post('/required-event', { body: { event: null } }))).toBe('IDEMPOTENCY_KEY_REQUIRED');
  });

  it('is what a function of the context returns', async () => {
    const sent = { headers: { 'x-reference': newKey() } };
    const first = await post('/function', sent);
    const second = await post('/function', { ...sent, body: { other: true } });
    expect([isReplay(second), runOf(second)]).toEqual([true, runOf(first)]);
  });

  it('keeps its space when the operation is named, whatever the route becomes', async () => {
    const id = newKey();
    const first = await post(`/transfers/${id}`);
    const second = await post(`/moved/transfers/${id}`);
    expect([isReplay(second), runOf(second)]).toEqual([true, runOf(first)]);
  });

  it.each([
    ['in the path', { type: VersioningType.URI } as const, (version: string) => ({ path: `/v${version}/books`, headers: {} })],
    [
      'in a header',
      { type: VersioningType.HEADER, header: 'X-Version' } as const,
      (version: string) => ({ path: '/books', headers: { 'x-version': version } }),
    ],
  ])('is a version’s own where the version stands %s', async (_where, versioning, of) => {
    const configure = (nest: RunningApp['app']): void => void nest.enableVersioning(versioning);
    await shared.within(platform, { controllers: [Versions], configure }, async ({ url }) => {
      const id = newKey();
      const lend = (version: string): Promise<Answer> => send(`${url}${of(version).path}/${id}/lend`, { headers: of(version).headers });
      const [one, two, oneAgain] = [await lend('1'), await lend('2'), await lend('1')];
      expect([one.status, two.status]).toEqual([201, 201]);
      expect(runOf(two)).not.toBe(runOf(one));
      expect([isReplay(oneAgain), runOf(oneAgain)]).toEqual([true, runOf(one)]);
    });
  });
});
