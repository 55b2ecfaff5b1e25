/** What is stored of an answer where a route strips it first. */
import { describe, expect, it } from '@jest/globals';
import { Body, ConflictException, Controller, Post, Res } from '@nestjs/common';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution, RedactFunction, RedactableAnswer } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { books, write } from './support/desk.js';
import { Journal } from './support/journal.js';
import type { PlatformResponse } from './support/platform-response.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const SECRET = 'card-4242';

const withoutCard: RedactFunction = ({ status, headers: { location: _location, ...headers }, body }) => {
  const { card: _card, ...rest } = JSON.parse(body.toString()) as Record<string, unknown>;
  return { status, headers, body: Buffer.from(JSON.stringify(rest)) };
};

const amiss: Record<string, (answer: RedactableAnswer) => unknown> = {
  throws: () => {
    throw new TypeError(`found ${SECRET}`);
  },
  'returns nothing': () => undefined,
  'returns a promise': async () => {
    throw new Error(SECRET);
  },
  'returns another status': (answer) => ({ ...answer, status: 200 }),
  'returns a text for a body': (answer) => ({ ...answer, body: SECRET }),
  'returns a header that is never replayed': (answer) => ({ ...answer, headers: { 'set-cookie': SECRET } }),
  'returns a header that can’t be sent': (answer) => ({ ...answer, headers: { location: `/\r\n${SECRET}` } }),
  'returns too much': (answer) => ({ ...answer, body: Buffer.alloc(2000) }),
};
let failing: (answer: RedactableAnswer) => unknown = () => undefined;

@Controller()
@Idempotent({ redact: withoutCard })
class Cards {
  @Post('cards')
  create(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.header('location', `/cards/${SECRET}`);
    return { id: 1, card: SECRET };
  }

  @Post('refused')
  refused(): never {
    throw new ConflictException({ id: 1, card: SECRET });
  }

  @Idempotent({ atomic: true })
  @Post('atomic')
  async atomic(@CurrentExecution() execution: IdempotentExecution, @Body() { title }: { title: string }): Promise<object> {
    await write(execution.manager, title, 'card');
    return { id: 1, card: SECRET };
  }

  @Idempotent({ maxBodyBytes: 1000, redact: (answer) => failing(answer) as RedactableAnswer })
  @Post('failing')
  failing(): object {
    return { id: 1, card: SECRET };
  }

  @Idempotent({ atomic: true, redact: () => failing({ status: 201, headers: {}, body: Buffer.alloc(0) }) as RedactableAnswer })
  @Post('failing-atomic')
  async failingAtomic(@CurrentExecution() execution: IdempotentExecution, @Body() { title }: { title: string }): Promise<object> {
    await write(execution.manager, title, 'card');
    return { id: 1, card: SECRET };
  }

  @Idempotent({ redact: (answer) => ({ ...answer, body: answer.body.fill('x') }) })
  @Post('overwritten')
  overwritten(): object {
    return { id: 1, card: SECRET };
  }
}

async function stored(key: string): Promise<string> {
  const { rows } = await shared
    .database()
    .pool.query<{ text: string }>(
      `select coalesce(encode(headers, 'escape'), '') || coalesce(encode(body, 'escape'), '') as text from idempotency_records where key = $1`,
      [key],
    );
  return rows.map(({ text }) => text).join();
}

describe.each(PLATFORMS)('redact on %s', (platform) => {
  const parts = (): AppParts => ({ controllers: [Cards], options: { pool: undefined, dataSource: ours.dataSource() } });
  const within = shared.within.bind(shared, platform);

  it('lets the first client have all of it, and stores and replays the rest', () =>
    within(parts(), async ({ url }) => {
      const key = newKey();
      const [first, second] = [await send(`${url}/cards`, { key }), await send(`${url}/cards`, { key })];
      expect([json(first), field(first, 'location')]).toEqual([{ id: 1, card: SECRET }, `/cards/${SECRET}`]);
      expect([json(second), field(second, 'location'), isReplay(second)]).toEqual([{ id: 1 }, undefined, true]);
      expect(field(second, 'content-type')).toBe(field(first, 'content-type'));
      expect(await stored(key)).not.toContain(SECRET);
    }));

  it('strips a refusal of the handler’s as well', () =>
    within(parts(), async ({ url }) => {
      const key = newKey();
      const [first, second] = [await send(`${url}/refused`, { key }), await send(`${url}/refused`, { key })];
      expect([first.status, second.status, isReplay(second)]).toEqual([409, 409, true]);
      expect([json(first), json(second)]).toEqual([{ id: 1, card: SECRET }, { id: 1 }]);
    }));

  it('does so in atomic mode', () =>
    within(parts(), async ({ url }) => {
      const key = newKey();
      const sent = { key, body: { title: key } };
      const [first, second] = [await send(`${url}/atomic`, sent), await send(`${url}/atomic`, sent)];
      expect([json(first), json(second)]).toEqual([{ id: 1, card: SECRET }, { id: 1 }]);
      expect(await ours.read(key)).toEqual(['card']);
    }));

  it('strips before it seals', () =>
    within({ ...parts(), options: { ...parts().options, encryption: { keys: [Buffer.alloc(32, 7)] } } }, async ({ url }) => {
      const key = newKey();
      await send(`${url}/cards`, { key });
      expect(json(await send(`${url}/cards`, { key }))).toEqual({ id: 1 });
    }));

  it('can do what it likes with its bytes: the first client has its own', () =>
    within(parts(), async ({ url }) => {
      const key = newKey();
      expect(json(await send(`${url}/overwritten`, { key }))).toEqual({ id: 1, card: SECRET });
      expect((await send(`${url}/overwritten`, { key })).text).toMatch(/^x+$/);
    }));

  it.each(Object.keys(amiss))('stores nothing of the answer when it %s, and runs nothing again', async (name) => {
    failing = amiss[name]!;
    const journal = new Journal();
    await within({ ...parts(), create: { logger: journal } }, async ({ app, url }) => {
      const key = newKey();
      const [first, second] = [await send(`${url}/failing`, { key }), await send(`${url}/failing`, { key })];
      expect(json(first)).toEqual({ id: 1, card: SECRET });
      expect([second.status, codeOf(second)]).toEqual([409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE']);
      expect(await app.get(IdempotencyService).find({ scope: '', key })).toMatchObject({ state: 'sealed' });
      expect(await stored(key)).toBe('');
    });
    expect(journal.own('error')).toEqual([expect.stringMatching(/Cards\.failing: redact (threw|returned)/)]);
    expect(journal.lines.join()).not.toContain(SECRET);
  });

  it('stores nothing in atomic mode either, and the rows of the handler stay', async () => {
    failing = amiss['throws']!;
    await within(parts(), async ({ url }) => {
      const key = newKey();
      const sent = { key, body: { title: key } };
      const [first, second] = [await send(`${url}/failing-atomic`, sent), await send(`${url}/failing-atomic`, sent)];
      expect([first.status, codeOf(second)]).toEqual([201, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE']);
      expect([await ours.read(key), await stored(key)]).toEqual([['card'], '']);
    });
  });

  it('is not asked about the values of run(), nor about an answer that is given by hand', () =>
    within({ ...parts(), options: { ...parts().options, redact: withoutCard } }, async ({ app, url }) => {
      const service = app.get(IdempotencyService);
      const run = { operation: 'mail', key: newKey() };
      await service.run(run, () => ({ card: SECRET }));
      expect((await service.run(run, () => ({}))).value).toEqual({ card: SECRET });
      failing = amiss['throws']!;
      const key = newKey();
      await send(`${url}/failing`, { key });
      await service.resolve({ scope: '', key }, { answer: { status: 201, body: { card: SECRET } } });
      expect(json(await send(`${url}/failing`, { key }))).toEqual({ card: SECRET });
    }));
});
