/** Answers of every kind in atomic mode: none leaves before the COMMIT, whatever writes it. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Post, Res, StreamableFile } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, write } from './support/desk.js';
import type { Played, Work } from './support/desk.js';
import { bare } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, json } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

const KEPT = 1000;
/** What is held in memory at most, as a multiple of what is kept. */
const HELD = 8;

@Controller()
class Desk {
  @Idempotent({ atomic: true, maxBodyBytes: KEPT })
  @Post('returns')
  returns(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true, maxBodyBytes: KEPT, lockTtl: '1s' })
  @Post('writes')
  writes(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played, @Res() _response: unknown): unknown {
    return script.by(execution);
  }
}

/** Answers in the place of a handler that has come to the named stop. */
function impatient(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const stop = request.headers['x-impatient'];
  if (typeof stop === 'string') void stage.reached(stop).then(() => response.writeHead(408).end());
  next();
}

const parts = { controllers: [Desk], configure: (app) => void app.use(impatient) } satisfies AppParts;

const text = (bytes: number): string => 'x'.repeat(bytes);

function* pieces(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= 500) yield Buffer.alloc(Math.min(500, left), 'x');
}

describe.each(PLATFORMS)('an answer in atomic mode on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>): Promise<void> =>
    shared.within(platform, { ...parts, options: { pool: undefined, dataSource: ours.dataSource() } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  /** A handler that writes into the books and then answers as `work` does. */
  const charging = (title: string, work: Work): Script =>
    new Script(async (scene) => {
      await write(scene.execution.manager, title, 'charged');
      return work(scene);
    });

  it.each<[string, string, Work]>([
    ['JSON by @Res()', 'writes', ({ response }) => void response.status(202).send({ accepted: true })],
    [
      'bytes to the bare response',
      'writes',
      ({ response }) => void bare(response).writeHead(203, { 'content-type': 'text/plain' }).end('one two'),
    ],
    ['a stream piped to the response', 'writes', ({ response }) => void Readable.from(pieces(900)).pipe(bare(response))],
    ['a StreamableFile', 'returns', () => new StreamableFile(Readable.from(pieces(900)))],
    ['a StreamableFile of bytes', 'returns', () => new StreamableFile(Buffer.from([0, 255, 128]))],
    ['nothing', 'returns', () => undefined],
  ])('%s: held until the COMMIT, recorded with the rows, and replayed', (_, path, work) =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, work);
      const answer = await script.send(`${url}/${path}`, { key });
      expect(answer.status).toBeLessThan(300);
      expect(await ours.read(key)).toEqual(['charged']);
      const again = await script.send(`${url}/${path}`, { key });
      expect([essence(again), isReplay(again), script.runs]).toEqual([essence(answer), true, 1]);
    }),
  );

  it('by @Res() waits for the handler, which may still fail: then nothing of it is true', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, async ({ response }) => {
        response.status(201).send({ charged: true });
        await stage.stopAt(key);
        throw new Error('too soon');
      });
      const answering = script.send(`${url}/writes`, { key });
      await stage.reached(key);
      expect(await shared.records(key)).toBe(1);
      stage.open(key);
      const answer = await answering;
      expect([answer.status, codeOf(answer)]).toEqual([500, 'IDEMPOTENCY_TRANSACTION_FAILED']);
      expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
    }));

  it('by @Res() that is none to keep leaves at once, and the key is free when the handler is done', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, async ({ response }) => {
        response.status(502).send({ charged: false });
        await stage.stopAt(key);
      });
      expect((await script.send(`${url}/writes`, { key })).status).toBe(502);
      expect(codeOf(await script.send(`${url}/writes`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(key);
      await until(async () => (await shared.records(key)) === 0);
      expect(await ours.read(key)).toEqual([]);
    }));

  it('of a middleware that gives up on the handler leaves at once, and all is rolled back when the handler is done', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, () => stage.stopAt(key));
      const answer = await script.send(`${url}/returns`, { key, headers: { 'x-impatient': key } });
      expect(answer.status).toBe(408);
      expect(codeOf(await script.send(`${url}/returns`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
      stage.open(key);
      await until(async () => (await shared.records(key)) === 0);
      expect(await ours.read(key)).toEqual([]);
    }));

  it.each<[string, string, Work]>([
    ['returned', 'returns', () => ({ text: text(2 * KEPT) })],
    ['streamed', 'returns', () => new StreamableFile(Readable.from(pieces(2 * KEPT)))],
    ['piped', 'writes', ({ response }) => void Readable.from(pieces(2 * KEPT)).pipe(bare(response))],
  ])('that is too large to keep (%s) passes whole, its rows are committed, and the key is sealed', (_, path, work) =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, work);
      const answer = await script.send(`${url}/${path}`, { key });
      expect(answer.status).toBeLessThan(300);
      expect(answer.body.length).toBeGreaterThanOrEqual(2 * KEPT);
      expect(await ours.read(key)).toEqual(['charged']);
      const again = await script.send(`${url}/${path}`, { key });
      expect([again.status, codeOf(again), script.runs]).toEqual([409, 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE', 1]);
    }),
  );

  it.each<[string, string, Work]>([
    ['returned', 'returns', () => ({ text: text(HELD * KEPT + 1) })],
    ['streamed', 'returns', () => new StreamableFile(Readable.from(pieces(HELD * KEPT + 1)))],
    ['piped', 'writes', ({ response }) => void Readable.from(pieces(HELD * KEPT + 1)).pipe(bare(response))],
    [
      'of an endless stream of events',
      'writes',
      ({ response }) => {
        const raw = bare(response);
        raw.writeHead(200, { 'content-type': 'text/event-stream' });
        raw.write('data: 1\n\n');
        raw.end();
      },
    ],
  ])('that is too large to hold (%s) is refused with 500 and rolled back, and the key is free', (_, path, work) =>
    within(async ({ url }) => {
      const key = newKey();
      let large = true;
      const script = charging(key, (scene) =>
        large ? work(scene) : path === 'writes' ? scene.response.send({ small: true }) : { small: true },
      );
      const answer = await script.send(`${url}/${path}`, { key });
      expect([answer.status, codeOf(answer)]).toEqual([500, 'IDEMPOTENCY_ANSWER_TOO_LARGE']);
      expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
      large = false;
      expect((await script.send(`${url}/${path}`, { key })).status).toBeLessThan(300);
      expect(await ours.read(key)).toEqual(['charged']);
    }),
  );

  it('that the handler waits to be sent is refused when the lease is over, and all is rolled back', () =>
    within(async ({ url }) => {
      const key = newKey();
      let ended = false;
      const script = charging(key, async ({ response }) => {
        await pipeline(Readable.from(pieces(500)), bare(response)).finally(() => (ended = true));
      });
      const answer = await script.send(`${url}/writes`, { key });
      expect([answer.status, codeOf(answer)]).toEqual([500, 'IDEMPOTENCY_ANSWER_TOO_EARLY']);
      expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
      await until(() => ended);
    }));

  it('whose source breaks half-way is no answer: all is rolled back, and the key is free', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = charging(key, ({ run }) => {
        if (run === 2) return { whole: true };
        const broken = Readable.from(
          (function* () {
            yield Buffer.alloc(100, 'x');
            throw new Error('the disk is gone');
          })(),
        );
        return new StreamableFile(broken);
      });
      await expect(script.send(`${url}/returns`, { key })).rejects.toThrow('hang up');
      await until(async () => (await shared.records(key)) === 0);
      expect(await ours.read(key)).toEqual([]);
      expect(json(await script.send(`${url}/returns`, { key }))).toEqual({ whole: true });
    }));
});
