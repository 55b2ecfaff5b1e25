/** HTTP/2, which Fastify speaks: over it an answer is kept, held and replayed as over HTTP/1.1. */
import compress from '@fastify/compress';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Body, ConflictException, Controller, HttpCode, Post, Res, StreamableFile, ValidationPipe } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { IsInt } from 'class-validator';
import { Agent } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse, constants } from 'node:http2';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gunzipSync } from 'node:zlib';
import { from } from 'rxjs';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { LOCALHOST } from './support/certificate.js';
import { Play, Script, books } from './support/desk.js';
import type { Played, Work } from './support/desk.js';
import { Http2Line, readAnswer } from './support/http2-line.js';
import type { SentOverHttp2 } from './support/http2-line.js';
import { bare } from './support/platform-response.js';
import { essence } from './support/replays.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

const KEPT = 100_000;

interface ParserRegistry {
  addContentTypeParser(type: string, parser: (request: unknown, content: unknown, done: (error: null) => void) => void): void;
}

class Charge {
  @IsInt()
  amount!: number;
}

@Controller()
class Desk {
  @Idempotent({ maxBodyBytes: KEPT })
  @Post('returns')
  returns(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ maxBodyBytes: KEPT })
  @Post('writes')
  writes(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played, @Res() _response: unknown): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('no-content')
  @HttpCode(204)
  noContent(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ onDuplicate: 'wait' })
  @Post('waits')
  waits(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('validated')
  validated(
    @Body(new ValidationPipe()) _charge: Charge,
    @CurrentExecution() execution: IdempotentExecution,
    @Play() script: Played,
  ): unknown {
    return script.by(execution);
  }

  @Idempotent({ lockTtl: '1s' })
  @Post('silent')
  silent(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played, @Res() _response: unknown): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { retries: 1 } })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic-writes')
  atomicWrites(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played, @Res() _response: unknown): unknown {
    return script.by(execution);
  }
}

const parts = (): AppParts => ({
  controllers: [Desk],
  fastify: { http2: true },
  options: { pool: undefined, dataSource: ours.dataSource() },
});

let app: RunningApp;
let line: Http2Line;

beforeAll(async () => {
  app = await shared.start('fastify', parts());
  line = new Http2Line(app.url);
});
afterEach(() => stage.openAll());
afterAll(() => line.destroy());

const play = (path: string, { name }: Script, { headers, ...sent }: SentOverHttp2 = {}, on = line): Promise<Answer> =>
  on.send(`/${path}`, { ...sent, headers: { ...headers, 'x-script': name } });

function* pieces(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= 5000) yield Buffer.alloc(Math.min(5000, left), 'x');
}

describe('an answer over HTTP/2', () => {
  it.each<[string, string, Work]>([
    ['an object', 'returns', ({ run }) => ({ run })],
    ['text', 'returns', () => 'Überweisung – 支払い'],
    ['nothing', 'returns', () => undefined],
    ['an empty text', 'returns', () => ''],
    ['null', 'returns', () => null],
    ['an Observable', 'returns', ({ run }) => from([{ run }])],
    ['204', 'no-content', () => undefined],
    ['a refusal of the handler’s', 'returns', () => Promise.reject(new ConflictException('sold out'))],
    ['a StreamableFile', 'returns', () => new StreamableFile(Readable.from(pieces(20_000)), { disposition: 'attachment; filename="r"' })],
    ['a StreamableFile of bytes', 'returns', () => new StreamableFile(Buffer.from([0, 255, 128]), { type: 'image/png' })],
    ['as much as is kept', 'returns', () => 'x'.repeat(KEPT)],
    ['by @Res()', 'writes', ({ response, run }) => void response.status(202).header('etag', '"a"').send({ run })],
    ['a stream by @Res()', 'writes', ({ response }) => response.header('content-type', 'text/plain').send(Readable.from(pieces(20_000)))],
    ['to the bare response', 'writes', ({ response }) => void bare(response).writeHead(203, { 'content-type': 'a/b' }).end('one two')],
    ['to the bare response, later', 'writes', ({ response }) => void setTimeout(() => bare(response).end('late'), 5)],
    ['nothing to the bare response', 'writes', ({ response }) => void bare(response).end()],
    ['piped', 'writes', ({ response }) => void Readable.from(pieces(20_000)).pipe(bare(response))],
    ['in a pipeline that is waited for', 'writes', ({ response }) => pipeline(Readable.from(pieces(20_000)), bare(response))],
    [
      'with cookies and headers of its own',
      'writes',
      ({ response }) => void response.header('set-cookie', ['a=1', 'b=2']).header('x-own', '1').send('x'),
    ],
    ['in atomic mode', 'atomic', ({ run }) => ({ run })],
    ['a StreamableFile in atomic mode', 'atomic', () => new StreamableFile(Readable.from(pieces(20_000)))],
    ['by @Res() in atomic mode', 'atomic-writes', ({ response, run }) => void response.status(202).send({ run })],
  ])('is replayed as it was: %s', async (_, path, work) => {
    const key = newKey();
    const script = new Script(work);
    const [first, again] = [await play(path, script, { key }), await play(path, script, { key })];
    expect([isReplay(first), isReplay(again), script.runs]).toEqual([false, true, 1]);
    expect(essence(again)).toEqual(essence(first));
  });
});

describe('a key over HTTP/2', () => {
  it('is in use while its request is at work', async () => {
    const key = newKey();
    const script = new Script(async ({ run }) => {
      await stage.stopAt(key);
      return { run };
    });
    const first = play('returns', script, { key });
    await stage.reached(key);
    const early = await play('returns', script, { key });
    expect([early.status, codeOf(early), field(early, 'retry-after')]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE', '1']);
    expect(field(early, 'content-type')).toContain('application/problem+json');
    stage.open(key);
    expect(json(await first)).toEqual({ run: 1 });
  });

  it('is waited for', async () => {
    const key = newKey();
    const script = new Script(async ({ run }) => {
      await stage.stopAt(key);
      return { run };
    });
    const first = play('waits', script, { key });
    await stage.reached(key);
    const others = Array.from({ length: 5 }, () => play('waits', script, { key }));
    stage.open(key);
    const answers = [await first, ...(await Promise.all(others))];
    expect(answers.map((answer) => [json(answer), isReplay(answer)])).toEqual(answers.map((_, i) => [{ run: 1 }, i > 0]));
  });

  it('is refused for another request', async () => {
    const key = newKey();
    const script = new Script(({ run }) => ({ run }));
    await play('returns', script, { key, body: { amount: 1 } });
    const other = await play('returns', script, { key, body: { amount: 2 } });
    expect([other.status, codeOf(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    expect(isReplay(await play('returns', script, { key, body: { amount: 1 } }))).toBe(true);
  });

  it('is not used up by a request that validation refuses', async () => {
    const key = newKey();
    const script = new Script(({ run }) => ({ run }));
    for (let i = 0; i < 2; i += 1) {
      const refused = await play('validated', script, { key, body: { amount: 'much' } });
      expect([refused.status, isReplay(refused)]).toEqual([400, false]);
    }
    expect(json(await play('validated', script, { key, body: { amount: 1 } }))).toEqual({ run: 1 });
  });

  it('is free after an outcome that is not kept', async () => {
    const key = newKey();
    const script = new Script(({ run }) => {
      if (run === 1) throw new Error('the provider is away');
      return { run };
    });
    expect((await play('returns', script, { key })).status).toBe(500);
    const second = await play('returns', script, { key });
    expect([json(second), isReplay(second)]).toEqual([{ run: 2 }, false]);
  });
});

describe('a client that goes over HTTP/2', () => {
  const answers: [string, string, Work][] = [
    ['a promise', 'returns', ({ run }) => ({ run })],
    ['a StreamableFile', 'returns', () => new StreamableFile(Readable.from(pieces(20_000)))],
    ['by @Res()', 'writes', ({ response, run }) => void response.status(201).send({ run })],
    ['piped', 'writes', ({ response }) => void Readable.from(pieces(20_000)).pipe(bare(response))],
    ['in a pipeline that is waited for', 'writes', ({ response }) => pipeline(Readable.from(pieces(20_000)), bare(response))],
    ['to the bare response, later', 'writes', ({ response }) => void setTimeout(() => bare(response).end('late'), 20)],
    ['in atomic mode', 'atomic', ({ run }) => ({ run })],
    ['by @Res() in atomic mode', 'atomic-writes', ({ response, run }) => void response.send({ run })],
  ];

  describe.each(['resets its stream', 'takes its connection down'])('and %s', (how) => {
    it.each(answers)('finds its answer when it comes back: %s', async (_, path, work) => {
      const key = newKey();
      let hasGone = false;
      const script = new Script(async (scene) => {
        scene.response.raw!.req.once('close', () => (hasGone = true));
        await stage.stopAt(key);
        return work(scene);
      });
      const own = new Http2Line(app.url);
      const calling = own.begin(`/${path}`, { key, headers: { 'x-script': script.name } });
      await stage.reached(key);
      if (how === 'resets its stream') calling.close(constants.NGHTTP2_CANCEL);
      else own.destroy();
      await until(() => hasGone);
      stage.open(key);
      await until(async () => (await stateOf(key)) === 'completed');
      const retry = await play(path, script, { key });
      expect([isReplay(retry), script.runs]).toEqual([true, 1]);
      expect(retry.text).toMatch(/^(\{"run":1\}|x{20000}|late)$/);
      own.destroy();
    });

    it('while its answer streams leaves the rest of it to be kept', async () => {
      const key = newKey();
      let hasGone = false;
      let finished = 0;
      const script = new Script(({ response }) => {
        response.raw!.req.once('close', () => (hasGone = true));
        response.raw!.on('finish', () => (finished += 1));
        const source = new PassThrough();
        source.pipe(bare(response));
        source.write('first ');
        void stage.stopAt(key).then(() => source.end('second'));
      });
      const own = new Http2Line(app.url);
      const calling = own.begin('/writes', { key, headers: { 'x-script': script.name } });
      await stage.reached(key);
      if (how === 'resets its stream') calling.close(constants.NGHTTP2_CANCEL);
      else own.destroy();
      await until(() => hasGone);
      expect(finished).toBe(0);
      stage.open(key);
      await until(async () => (await stateOf(key)) === 'completed');
      await until(() => finished === 1); // as Node says it without us, if too early
      expect((await play('writes', script, { key })).text).toBe('first second');
      own.destroy();
    });
  });

  it('leaves a key that is free if the handler fails', async () => {
    const key = newKey();
    const script = new Script(async () => {
      await stage.stopAt(key);
      throw new Error('the provider is away');
    });
    const calling = line.begin('/returns', { key, headers: { 'x-script': script.name } });
    await stage.reached(key);
    calling.close(constants.NGHTTP2_CANCEL);
    stage.open(key);
    await until(async () => (await shared.records(key)) === 0);
  });
});

describe('an answer over HTTP/2 that is too large to be kept', () => {
  const LARGE = 40 * KEPT;

  it.each<[string, string, Work]>([
    ['a text', 'returns', () => 'x'.repeat(LARGE)],
    ['a StreamableFile', 'returns', () => new StreamableFile(Readable.from(pieces(LARGE)))],
    ['piped', 'writes', ({ response }) => void Readable.from(pieces(LARGE)).pipe(bare(response))],
    ['in a pipeline that is waited for', 'writes', ({ response }) => pipeline(Readable.from(pieces(LARGE)), bare(response))],
  ])('flows through whole, and is sealed: %s', async (_, path, work) => {
    const key = newKey();
    const script = new Script(work);
    const answer = await play(path, script, { key });
    expect([answer.status, answer.body.length]).toEqual([201, LARGE]);
    expect(codeOf(await play(path, script, { key }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
    expect(script.runs).toBe(1);
  });

  it('waits for a client that reads slowly', async () => {
    const key = newKey();
    let given = 0;
    const script = new Script(({ response }) => {
      const source = Readable.from(
        (function* () {
          for (const piece of pieces(LARGE)) {
            given += piece.length;
            yield piece;
          }
        })(),
      );
      source.pipe(bare(response));
    });
    const answering = readAnswer(line.begin('/writes', { key, headers: { 'x-script': script.name } }), stage.stopAt(key));
    let before = -1;
    await until(() => given > KEPT && before === (before = given));
    expect(given).toBeLessThan(LARGE / 2);
    stage.open(key);
    expect((await answering).body.length).toBe(LARGE);
  });

  it('ends for the handler too when the client goes', async () => {
    const key = newKey();
    let ended: Promise<unknown> | undefined;
    const script = new Script(({ response }) => {
      ended = pipeline(Readable.from(pieces(LARGE)), bare(response)).catch((error: unknown) => error);
      return ended;
    });
    const calling = line.begin('/writes', { key, headers: { 'x-script': script.name } });
    await until(async () => (await stateOf(key)) === 'sealed');
    calling.close(constants.NGHTTP2_CANCEL);
    await until(() => ended !== undefined);
    await ended;
    expect(codeOf(await play('writes', script, { key }))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });

  it('makes nobody wait whose client has gone without reading it', async () => {
    const key = newKey();
    let ended = false;
    const script = new Script(({ response }) => {
      const raw = bare(response);
      for (let i = 0; i < 40; i += 1) raw.write(Buffer.alloc(KEPT));
      return new Promise<void>((resolve) => void raw.end(resolve)).then(() => (ended = true));
    });
    const calling = line.begin('/writes', { key, headers: { 'x-script': script.name } });
    await new Promise((resolve) => calling.once('response', resolve));
    expect(ended).toBe(false);
    calling.close(constants.NGHTTP2_CANCEL);
    await until(() => ended);
  });

  it('does not look whole where it was broken off', async () => {
    const key = newKey();
    const script = new Script(({ response }) => {
      const raw = bare(response);
      raw.write(Buffer.alloc(2 * KEPT));
      void stage.stopAt(key).then(() => raw.destroy());
    });
    const calling = line.begin('/writes', { key, headers: { 'x-script': script.name } });
    const answering = readAnswer(calling);
    calling.once('response', () => stage.open(key));
    await expect(answering).rejects.toThrow('NGHTTP2_INTERNAL_ERROR');
  });
});

describe('behind what others put in front of a response of HTTP/2', () => {
  const within = (configure: AppParts['configure'], work: (own: Http2Line) => Promise<void>): Promise<void> =>
    shared.within('fastify', { ...parts(), ...(configure && { configure }) }, async ({ url }) => {
      const own = new Http2Line(url);
      await work(own).finally(() => own.destroy());
    });

  /** As sessions do, which are saved before the answer ends. */
  const holding =
    (early: number) =>
    (_: IncomingMessage, response: ServerResponse, next: () => void): void => {
      const { end, write: writeOn } = response;
      Object.assign(response, {
        end: (bytes: Buffer) => {
          if (early > 0) Reflect.apply(writeOn, response, [bytes.subarray(0, early)]);
          setTimeout(() => Reflect.apply(end, response, [bytes.subarray(early)]), 20);
        },
      });
      next();
    };

  it.each([
    ['as a whole', 0],
    ['but for its first bytes', 5],
  ])('an answer leaves that is held back %s, and its replay too', (_, early) =>
    within(
      (nest) => void nest.use(holding(early)),
      async (own) => {
        const key = newKey();
        const script = new Script(() => ({ paid: 'all of it' }));
        for (const replayed of [false, true, true]) {
          const answer = await play('returns', script, { key }, own);
          expect([answer.status, answer.text, isReplay(answer)]).toEqual([201, '{"paid":"all of it"}', replayed]);
        }
      },
    ),
  );

  it('an answer is compressed for whoever takes it, and recorded as it was', () =>
    within(
      async (nest) => void (await (nest as NestFastifyApplication).register(compress as never, { threshold: 10 } as never)),
      async (own) => {
        const key = newKey();
        const script = new Script(() => ({ paid: 'x'.repeat(5000) }));
        const plain = `{"paid":"${'x'.repeat(5000)}"}`;
        for (const replayed of [false, true]) {
          const coded = await play('returns', script, { key, headers: { 'accept-encoding': 'gzip' } }, own);
          expect([field(coded, 'content-encoding'), isReplay(coded)]).toEqual([replayed ? undefined : 'gzip', replayed]);
          expect(String(replayed ? coded.body : gunzipSync(coded.body))).toBe(plain);
        }
      },
    ));

  it('somebody else’s answer passes, and the handler’s own end decides', () =>
    within(
      (nest) =>
        void nest.use(({ headers }: IncomingMessage, response: ServerResponse, next: () => void) => {
          const stop = headers['x-impatient'];
          if (typeof stop === 'string') void stage.reached(stop).then(() => response.writeHead(408).end());
          next();
        }),
      async (own) => {
        const key = newKey();
        const script = new Script(() => stage.stopAt(key));
        expect((await play('returns', script, { key, headers: { 'x-impatient': key } }, own)).status).toBe(408);
        expect(codeOf(await play('returns', script, { key }, own))).toBe('IDEMPOTENCY_KEY_IN_USE');
        stage.open(key);
        await until(async () => (await stateOf(key)) !== 'running');
        expect(codeOf(await play('returns', script, { key }, own))).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
      },
    ));

  it('content that nothing parses can’t be told, though its length is not told either', () =>
    within(
      (nest) =>
        (nest.getHttpAdapter().getInstance() as ParserRegistry).addContentTypeParser('text/csv', (_request, _content, done) => done(null)),
      async (own) => {
        const script = new Script(({ run }) => ({ run }));
        const answer = await play('returns', script, { key: newKey(), body: 'a;b', headers: { 'content-type': 'text/csv' } }, own);
        expect([answer.status, codeOf(answer), script.runs]).toEqual([500, 'IDEMPOTENCY_REQUEST_UNREADABLE', 0]);
      },
    ));

  it('a client that has gone before its handler is called finds its answer, too', () =>
    within(
      (nest) =>
        void nest.use(({ headers }: IncomingMessage, response: ServerResponse, next: () => void) => {
          if (headers['x-leaving'] === undefined) return next();
          response.once('close', () => setTimeout(next, 5));
          stage.open(String(headers['x-leaving']));
        }),
      async (own) => {
        const [key, arrived] = [newKey(), newKey()];
        const script = new Script(({ response }) => pipeline(Readable.from(pieces(20_000)), bare(response)));
        const calling = own.begin('/writes', { key, headers: { 'x-script': script.name, 'x-leaving': arrived } });
        await stage.stopAt(arrived);
        calling.close(constants.NGHTTP2_CANCEL);
        await until(async () => (await stateOf(key)) === 'completed');
        const retry = await play('writes', script, { key }, own);
        expect([retry.body.length, isReplay(retry), script.runs]).toEqual([20_000, true, 1]);

        const [forgotten, left] = [newKey(), newKey()];
        const silent = new Script(() => undefined);
        const unanswered = own.begin('/silent', { key: forgotten, headers: { 'x-script': silent.name, 'x-leaving': left } });
        await stage.stopAt(left);
        unanswered.close(constants.NGHTTP2_CANCEL);
        await until(async () => (await stateOf(forgotten)) === 'sealed');
      },
    ));

  it('nothing is said that HTTP/2 has no place for', async () => {
    const said = jest.spyOn(Http2ServerResponse.prototype, 'statusMessage', 'set');
    const asked = jest.spyOn(Http2ServerResponse.prototype, 'statusMessage', 'get');
    const key = newKey();
    const script = new Script(({ run }) => ({ run }));
    for (let i = 0; i < 2; i += 1) await play('returns', script, { key });
    const repeated = new Script(async ({ execution, run }) => {
      if (run === 1) await execution.manager.query(`do $$ begin raise exception using errcode = '40001'; end $$`);
      return { run };
    });
    expect(json(await play('atomic', repeated, { key: newKey() }))).toEqual({ run: 2 });
    const written = new Script(({ response }) => void bare(response).writeHead(203, { 'content-type': 'a/b' }).end('one two'));
    for (const path of ['writes', 'atomic-writes']) await play(path, written, { key: newKey() });
    expect([said.mock.calls, asked.mock.calls]).toEqual([[], []]);
    said.mockRestore();
    asked.mockRestore();
  });
});

describe('one key over HTTP/1.1 and HTTP/2', () => {
  const tls = { ca: LOCALHOST.cert };
  const agent = new Agent(tls);
  let both: RunningApp;
  let url: string;
  let own: Http2Line;

  beforeAll(async () => {
    const { options, ...rest } = parts();
    both = await shared.start('fastify', {
      ...rest,
      fastify: { http2: true, https: { ...LOCALHOST, allowHTTP1: true } },
      options: { ...options, replayHeaders: ['x-own'] },
    });
    url = both.url.replace('http:', 'https:');
    own = new Http2Line(url, tls);
  });
  afterAll(() => {
    own.destroy();
    agent.destroy();
  });

  const overHttp1 = (path: string, { name }: Script, key: string): Promise<Answer> =>
    send(`${url}/${path}`, { key, agent, headers: { 'x-script': name } });
  const overHttp2 = (path: string, script: Script, key: string): Promise<Answer> => play(path, script, { key }, own);

  it.each([
    ['HTTP/1.1', overHttp1, overHttp2],
    ['HTTP/2', overHttp2, overHttp1],
  ])('has the same answer on either, where it was first given over %s', async (_, one, other) => {
    const key = newKey();
    const script = new Script(({ response, run }) => {
      if (response.raw?.req.httpVersionMajor === 1) response.header('connection', 'x-private');
      response.status(202).header('x-own', 'yes').header('link', ['</a>', '</b>']).send({ run });
    });
    const [first, again, third] = [await one('writes', script, key), await other('writes', script, key), await one('writes', script, key)];
    expect([isReplay(first), isReplay(again), isReplay(third), script.runs]).toEqual([false, true, true, 1]);
    for (const replay of [again, third]) {
      expect(joined(replay)).toEqual(joined(first));
      expect(field(replay, 'connection')).not.toBe('x-private');
    }
  });

  it('is one key, whichever comes first', async () => {
    const key = newKey();
    const script = new Script(({ run }) => ({ run }));
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => (i % 2 ? overHttp1 : overHttp2)('waits', script, key)));
    expect(answers.map((answer) => answer.text)).toEqual(answers.map(() => '{"run":1}'));
  });
});

/** A client of HTTP/2 hands over the fields of one name joined. */
function joined(answer: Answer): unknown {
  const headers = Object.entries(answer.headers).map(([name, values]) => [name, [values.join(', ')]]);
  return essence({ ...answer, headers: Object.fromEntries(headers) as Answer['headers'] }, 'x-own');
}

async function stateOf(key: string): Promise<string | undefined> {
  const { rows } = await shared.database().pool.query<{ state: number }>('select state from idempotency_records where key = $1', [key]);
  return rows[0] && ['running', 'completed', 'sealed', 'open'][rows[0].state];
}
