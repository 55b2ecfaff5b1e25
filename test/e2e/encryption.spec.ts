/** What lies in the table while it is encrypted, who can read it, and how it is switched on under way. */
import { describe, expect, it } from '@jest/globals';
import { Controller, HttpCode, Post, Res } from '@nestjs/common';
import { randomBytes, randomUUID } from 'node:crypto';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { EncryptionOptions, IdempotencyModuleOptions, IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Journal } from './support/journal.js';
import type { PlatformResponse } from './support/platform-response.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ours = books(shared);

const [OLD, NEW] = [randomBytes(32), 'a text of more than thirty-two characters'];
const UNREADABLE = 'IDEMPOTENCY_RECORD_UNREADABLE';
const SECRET = 'card-4242';

@Controller()
class Desk {
  @Idempotent()
  @HttpCode(201)
  @Post('plain')
  plain(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('located')
  located(@Res({ passthrough: true }) response: PlatformResponse): object {
    response.header('location', `/cards/${SECRET}`);
    return { card: SECRET };
  }
}

/** What can be read of an answer and its steps in the bytes that lie in the tables. */
async function legible(key: string): Promise<string[]> {
  const { rows } = await shared.database().pool.query<{ bytes: Buffer | null }>(
    `with record as (select * from idempotency_records where key = $1)
     select headers as bytes from record
     union all
     select body from record
     union all
     select result from idempotency_steps where id in (select id from record)`,
    [key],
  );
  expect(rows.length).toBeGreaterThan(1);
  const bytes = Buffer.concat(rows.map((row) => row.bytes ?? Buffer.alloc(0)));
  return ['card', '4242', 'location', 'content-type', 'json'].filter((word) => bytes.includes(word));
}

/** Puts what one record has into another one. */
async function swap(from: string, to: string, columns: string): Promise<void> {
  const names = columns.split(', ');
  await shared
    .database()
    .pool.query(
      `update idempotency_records as target set ${names.map((name) => `${name} = source.${name}`).join(', ')} from idempotency_records as source where source.key = $1 and target.key = $2`,
      [from, to],
    );
}

describe.each(PLATFORMS)('encryption on %s', (platform) => {
  const parts = (encryption: EncryptionOptions | undefined, options: IdempotencyModuleOptions = {}): AppParts => ({
    controllers: [Desk],
    options: { pool: undefined, dataSource: ours.dataSource(), ...(encryption && { encryption }), ...options },
  });
  const within = <T>(encryption: EncryptionOptions | undefined, work: (app: RunningApp) => Promise<T>): Promise<T> =>
    shared.within(platform, parts(encryption), work);
  const pay = (app: RunningApp, key: string): Promise<Answer> => send(`${app.url}/located`, { key });

  it('replays byte for byte, and leaves nothing of headers and body in the table', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      const [first, second] = [await pay(app, key), await pay(app, key)];
      expect([first.status, isReplay(first), isReplay(second)]).toEqual([201, false, true]);
      expect(second.body).toEqual(first.body);
      expect([field(second, 'location'), field(second, 'content-type')]).toEqual([field(first, 'location'), field(first, 'content-type')]);
      expect(field(first, 'location')).toBe(`/cards/${SECRET}`);
      expect(await legible(key)).toEqual([]);
    }));

  it('keeps the status readable for operators', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      await pay(app, key);
      expect(await app.app.get(IdempotencyService).find({ scope: '', key })).toMatchObject({ state: 'completed', status: 201 });
    }));

  it('seals in atomic mode as well, with the rows of the handler', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      const script = new Script(async ({ execution }) => {
        await write(execution.manager, key, 'paid');
        return { card: SECRET };
      });
      const answers = [await script.send(`${app.url}/atomic`, { key }), await script.send(`${app.url}/atomic`, { key })];
      expect(answers.map(isReplay)).toEqual([false, true]);
      expect(answers[1]!.body).toEqual(answers[0]!.body);
      expect([script.runs, await ours.read(key)]).toEqual([1, ['paid']]);
      expect(await legible(key)).toEqual([]);
    }));

  it.each(['plain', 'atomic'])('seals the results of steps, and a retry resumes with them (%s)', (route) =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      let calls = 0;
      const script = new Script(async ({ execution, run }) => {
        const result = await execution.step('charge', () => ({ card: SECRET, call: ++calls }));
        if (run === 1) throw new Error('after the step');
        return result;
      });
      expect((await script.send(`${app.url}/${route}`, { key })).status).toBe(500);
      expect(await legible(key)).toEqual([]);
      expect(json(await script.send(`${app.url}/${route}`, { key }))).toEqual({ card: SECRET, call: 1 });
    }),
  );

  it('seals the result of a phase that commits by itself, and what run() gives', () =>
    within({ keys: [OLD] }, async (app) => {
      const [key, other] = [newKey(), newKey()];
      const service = app.app.get(IdempotencyService);
      const script = new Script(async ({ execution, run }) => {
        const result = await execution.transaction('book', async (manager) => {
          await write(manager, key, 'booked');
          return SECRET;
        });
        if (run === 1) throw new Error('after the phase');
        return { result };
      });
      await script.send(`${app.url}/plain`, { key });
      expect(json(await script.send(`${app.url}/plain`, { key }))).toEqual({ result: SECRET });
      const runs = [1, 2].map(() => service.run({ operation: 'mail', key: other }, () => SECRET));
      await Promise.allSettled(runs);
      expect(await service.run({ operation: 'mail', key: other }, () => 'again')).toEqual({ value: SECRET, replayed: true });
      expect(await ours.read(key)).toEqual(['booked']);
      for (const each of [key, other]) expect(await legible(each)).toEqual([]);
    }));

  it('seals an answer that is given by hand', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      await pay(app, key);
      await shared.alter(key, 'state = 2, headers = null, body = null');
      await app.app.get(IdempotencyService).resolve({ scope: '', key }, { answer: { status: 201, body: { card: SECRET } } });
      expect(await legible(key)).toEqual([]);
      expect(json(await pay(app, key))).toEqual({ card: SECRET });
    }));

  it('counts maxBodyBytes before it seals', () =>
    shared.within(platform, parts({ keys: [OLD] }, { maxBodyBytes: Buffer.byteLength(JSON.stringify({ card: SECRET })) }), async (app) => {
      const key = newKey();
      await pay(app, key);
      expect(isReplay(await pay(app, key))).toBe(true);
    }));

  it.each(['headers, body', 'headers, body, status'])('refuses an answer that was put in another one’s place (%s)', (columns) =>
    within({ keys: [OLD] }, async (app) => {
      const [key, other] = [newKey(), newKey()];
      await Promise.all([pay(app, key), pay(app, other)]);
      await swap(key, other, columns);
      const answer = await pay(app, other);
      expect([answer.status, codeOf(answer)]).toEqual([500, UNREADABLE]);
      expect(answer.text).not.toContain(SECRET);
      expect(isReplay(await pay(app, key))).toBe(true);
    }),
  );

  it('does not begin a handler whose steps can’t be opened, and leaves them as they are', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      const script = new Script(async ({ execution }) => {
        await execution.step('charge', () => 'ch_1');
        await execution.step('mail', () => 'sent');
        throw new Error('after the steps');
      });
      await script.send(`${app.url}/plain`, { key });
      const steps = `select name, encode(result, 'hex') as result from idempotency_steps where id = (select id from idempotency_records where key = $1) order by position`;
      const swapSteps = `update idempotency_steps as step set result = other.result from idempotency_steps as other
                          where step.id = other.id and step.name <> other.name and step.id = (select id from idempotency_records where key = $1)`;
      const { pool } = shared.database();
      await pool.query(swapSteps, [key]);
      const before = (await pool.query(steps, [key])).rows;
      for (const _ of [1, 2]) expect(codeOf(await script.send(`${app.url}/plain`, { key }))).toBe(UNREADABLE);
      expect(script.runs).toBe(1);
      expect((await pool.query(steps, [key])).rows).toEqual(before);
      await pool.query(swapSteps, [key]);
      await script.send(`${app.url}/plain`, { key });
      expect(script.runs).toBe(2);
    }));

  it('tells the log what to do, and the client only that it was nothing', async () => {
    const journal = new Journal();
    await shared.within(platform, { ...parts({ keys: [OLD] }), create: { logger: journal } }, async (app) => {
      const key = newKey();
      await pay(app, key);
      await shared.alter(key, `body = set_byte(body, 30, 255 - get_byte(body, 30))`);
      const answer = await pay(app, key);
      expect(answer.text).toMatch(/cannot be read, so nothing was done/);
      expect(answer.text).not.toMatch(/sealed|encrypt/);
    });
    expect(journal.own('error')).toEqual([expect.stringMatching(/Desk\.located: IDEMPOTENCY_RECORD_UNREADABLE\. .*changed, damaged/)]);
  });

  it('tells another request and a running one apart without opening anything', () =>
    within({ keys: [OLD] }, async (app) => {
      const key = newKey();
      await pay(app, key);
      await within({ keys: [NEW] }, async (stranger) => {
        expect((await send(`${stranger.url}/plain`, { key })).status).toBe(422);
        expect(codeOf(await pay(stranger, key))).toBe(UNREADABLE);
      });
    }));

  it('refuses what is not encrypted, and believes it while acceptPlain is set', async () => {
    const key = newKey();
    const answer = await within(undefined, (app) => pay(app, key));
    expect(await legible(key)).toContain('card'); // so that the look at the bytes is worth something
    await within({ keys: [OLD] }, async (app) => {
      const refused = await pay(app, key);
      expect([refused.status, codeOf(refused)]).toEqual([500, UNREADABLE]);
    });
    await within({ keys: [OLD], acceptPlain: true }, async (app) => {
      expect((await pay(app, key)).body).toEqual(answer.body);
      const other = newKey();
      await pay(app, other);
      await within({ keys: [OLD] }, async (strict) => expect(isReplay(await pay(strict, other))).toBe(true));
    });
  });

  it('without keys what is sealed is never given out', async () => {
    const key = newKey();
    const failing = newKey();
    const script = new Script(async ({ execution, run }) => {
      await execution.step('charge', () => SECRET);
      if (run === 1) throw new Error('after the step');
      return {};
    });
    await within({ keys: [OLD] }, async (app) => {
      await pay(app, key);
      await script.send(`${app.url}/plain`, { key: failing });
    });
    await within(undefined, async (app) => {
      expect(codeOf(await pay(app, key))).toBe(UNREADABLE);
      expect(codeOf(await script.send(`${app.url}/plain`, { key: failing }))).toBe(UNREADABLE);
    });
  });

  const stages: [string, (EncryptionOptions | undefined)[]][] = [
    ['switched on', [undefined, { keys: [NEW], acceptPlain: true, writePlain: true }, { keys: [NEW], acceptPlain: true }, { keys: [NEW] }]],
    [
      'switched off',
      [{ keys: [NEW] }, { keys: [NEW], acceptPlain: true }, { keys: [NEW], acceptPlain: true, writePlain: true }, undefined],
    ],
    ['rotated', [{ keys: [OLD] }, { keys: [OLD, NEW] }, { keys: [NEW, OLD] }, { keys: [NEW] }]],
  ];

  it.each(stages)('can be %s, a version at a time, beside the version before', async (_, versions) => {
    for (const [index, later] of versions.entries()) {
      if (index === 0) continue;
      await within(versions[index - 1], (before) =>
        within(later, async (after) => {
          // The last stage is for when the records of two stages before have expired: these are all of now.
          const [one, two, three] = [newKey(), newKey(), newKey()];
          const script = resuming();
          const first = await Promise.all([pay(before, one), pay(after, two), script.send(`${before.url}/plain`, { key: three })]);
          const replays = [await pay(after, one), await pay(before, two)];
          expect(replays.map(isReplay)).toEqual([true, true]);
          expect(replays.map(({ text }) => text)).toEqual([first[0].text, first[1].text]);
          expect(json(await script.send(`${after.url}/plain`, { key: three }))).toEqual({ call: 1 });
        }),
      );
    }
  });

  it('is not switched on at once without anybody noticing: who has no keys yet answers 500 for the records of who has', () =>
    within(undefined, (before) =>
      within({ keys: [NEW], acceptPlain: true }, async (after) => {
        const key = newKey();
        await pay(after, key);
        expect(codeOf(await pay(before, key))).toBe(UNREADABLE);
        expect(isReplay(await pay(after, key))).toBe(true);
      }),
    ));
});

/** Fails after its step the first time. */
function resuming(): Script {
  let calls = 0;
  const name = randomUUID();
  return new Script(async ({ execution, run }) => {
    const call = await execution.step(name, () => ++calls);
    if (run === 1) throw new Error('after the step');
    return { call };
  });
}
