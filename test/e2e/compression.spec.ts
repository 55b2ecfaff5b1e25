import { beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Post, StreamableFile } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import fastifyCompress from '@fastify/compress';
import compression from 'compression';
import { Readable } from 'node:stream';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { codeOf, field, isReplay, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const LINES = Array.from({ length: 2000 }, (_, i) => `line ${i} über alles\n`);

@Controller()
@Idempotent()
class Reports {
  @Post('object')
  object(): object {
    return { run: ledger.run('object'), lines: LINES };
  }

  @Post('text')
  text(): string {
    ledger.run('text');
    return LINES.join('');
  }

  @Post('stream')
  stream(): StreamableFile {
    ledger.run('stream');
    return new StreamableFile(Readable.from(LINES.map((line) => Buffer.from(line))), { type: 'text/plain' });
  }

  @Post('small')
  small(): object {
    return { run: ledger.run('small') };
  }

  /** Fits as it leaves one of the adapters compressed, and must not: what is kept is what it is decoded to. */
  @Post('bomb')
  @Idempotent({ maxBodyBytes: 5000 })
  bomb(): string {
    ledger.run('bomb');
    return 'x'.repeat(100_000);
  }
}

const IDENTITY = 'identity';
const DECODERS: Readonly<Record<string, (body: Buffer) => Buffer>> = { gzip: gunzipSync, br: brotliDecompressSync, deflate: inflateSync };

function decoded(answer: Answer): string {
  const coding = field(answer, 'content-encoding');
  return (coding === undefined ? answer.body : (DECODERS[coding] as (body: Buffer) => Buffer)(answer.body)).toString('utf8');
}

describe.each(PLATFORMS)('compressed answers on %s', (platform) => {
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, {
      controllers: [Reports],
      async configure(nest) {
        if (platform === 'express') nest.use(compression({ threshold: 1024 }));
        else await (nest as NestFastifyApplication).register(fastifyCompress as never, { threshold: 1024 } as never);
      },
    });
  });
  const ask = (what: string, key: string, coding: string): Promise<Answer> =>
    send(`${app.url}/${what}`, { key, headers: { 'accept-encoding': coding } });

  describe.each(['object', 'text', 'stream'])('%s', (what) => {
    it.each([
      ['gzip', IDENTITY],
      [IDENTITY, 'gzip'],
      ['gzip', 'gzip'],
      ['br', 'gzip'],
      ['deflate', IDENTITY],
    ])('first to a client that accepts %s, then to one that accepts %s: the same content, each in its coding', async (one, other) => {
      const key = newKey();
      const before = ledger.runs(what);
      const [first, second] = [await ask(what, key, one), await ask(what, key, other)];
      const coded = (coding: string): string | undefined => (coding === IDENTITY ? undefined : coding);
      expect(field(first, 'content-encoding')).toBe(coded(one));
      expect(isReplay(second)).toBe(true);
      expect(decoded(second)).toBe(decoded(first));
      if (what !== 'object') expect(decoded(second)).toBe(LINES.join(''));
      // A client that accepts nothing gets none; whether the other one's replay is compressed is the middleware's to say.
      if (other === IDENTITY || platform === 'express') expect(field(second, 'content-encoding')).toBe(coded(other));
      expect([field(second, 'content-type'), ledger.runs(what)]).toEqual([field(first, 'content-type'), before + 1]);
      if (field(second, 'content-length') !== undefined) expect(field(second, 'content-length')).toBe(String(second.body.length));
    });
  });

  it('stands in the table uncoded', async () => {
    const key = newKey();
    await ask('text', key, 'gzip');
    const { rows } = await shared.database().pool.query<{ body: Buffer }>('select body from idempotency_records where key = $1', [key]);
    expect(rows[0]?.body.toString('utf8')).toBe(LINES.join(''));
  });

  it('below the threshold nothing is compressed', async () => {
    const key = newKey();
    const [first, second] = [await ask('small', key, 'gzip'), await ask('small', key, 'gzip')];
    expect([field(first, 'content-encoding'), field(second, 'content-encoding'), second.text]).toEqual([undefined, undefined, first.text]);
  });

  it('larger than maxBodyBytes when decoded is sealed, and passes whole', async () => {
    const key = newKey();
    const [first, second] = [await ask('bomb', key, 'gzip'), await ask('bomb', key, 'gzip')];
    expect(decoded(first)).toBe('x'.repeat(100_000));
    expect(codeOf(second)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
  });
});
