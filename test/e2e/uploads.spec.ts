import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Body, Controller, Post, UploadedFile, UploadedFiles, UseInterceptors } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor, Type } from '@nestjs/common';
import * as expressPlatform from '@nestjs/platform-express';
import * as fastifyPlatform from '@nestjs/platform-fastify';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Observable } from 'rxjs';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { Platform, RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { sinceNest12 } from './support/platform-response.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
const runOf = (answer: Answer): unknown => (json(answer) as { run?: unknown }).run;
const outcome = (answer: Answer): unknown => (answer.status === 201 ? (isReplay(answer) ? 'replay' : 201) : codeOf(answer));

interface Part {
  readonly name: string;
  readonly content: string;
  readonly fileName?: string;
  readonly type?: string;
}

/** A multipart message as a client writes it, with the boundary it has chosen for this attempt. */
function multipart(boundary: string, parts: readonly Part[]): { headers: Record<string, string>; body: Buffer } {
  const lines = parts.flatMap(({ name, content, fileName, type }) => [
    `--${boundary}`,
    `Content-Disposition: form-data; name="${name}"${fileName === undefined ? '' : `; filename="${fileName}"`}`,
    ...(fileName === undefined ? [] : [`Content-Type: ${type ?? 'application/octet-stream'}`]),
    '',
    content,
  ]);
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Buffer.from([...lines, `--${boundary}--`, ''].join('\r\n')),
  };
}

interface Upload {
  readonly originalname: string;
  readonly size: number;
}

/** The same controllers with either platform's interceptors. */
function uploadsOf(platform: Platform, dest: string): Type[] {
  const { FileInterceptor, FilesInterceptor, AnyFilesInterceptor } = (
    platform === 'express' ? expressPlatform : fastifyPlatform
  ) as typeof expressPlatform;

  class NoLook implements NestInterceptor {
    intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
      return next.handle();
    }
  }

  @Controller()
  class Uploads {
    @Post('one')
    @Idempotent()
    @UseInterceptors(FileInterceptor('file'))
    one(@UploadedFile() file: Upload | undefined, @Body() body: { note?: string }): object {
      return { run: ledger.run('one'), name: file?.originalname ?? null, size: file?.size ?? null, note: body.note ?? null };
    }

    @Post('many')
    @Idempotent()
    @UseInterceptors(FilesInterceptor('files'))
    many(@UploadedFiles() files: Upload[]): object {
      return { run: ledger.run('many'), names: files.map(({ originalname }) => originalname) };
    }

    @Post('any')
    @Idempotent()
    @UseInterceptors(AnyFilesInterceptor())
    any(@UploadedFiles() files: Upload[]): object {
      return { run: ledger.run('any'), count: files.length };
    }

    @Post('disk')
    @Idempotent()
    @UseInterceptors(FileInterceptor('file', { dest }))
    disk(@UploadedFile() file: Upload): object {
      return { run: ledger.run('disk'), size: file.size };
    }

    @Post('wrong-order')
    @UseInterceptors(FileInterceptor('file'))
    @Idempotent()
    wrongOrder(): object {
      return { run: ledger.run('wrong-order') };
    }

    @Post('no-interceptor')
    @Idempotent()
    noInterceptor(): object {
      return { run: ledger.run('no-interceptor') };
    }

    @Post('other-interceptor')
    @Idempotent()
    @UseInterceptors(NoLook)
    otherInterceptor(): object {
      return { run: ledger.run('other-interceptor') };
    }

    @Post('chosen')
    @Idempotent({ fingerprint: ({ headers }) => headers?.['x-digest'] })
    @UseInterceptors(FileInterceptor('file'))
    chosen(): object {
      return { run: ledger.run('chosen') };
    }

    @Post('limited')
    @Idempotent()
    @UseInterceptors(FileInterceptor('file', { limits: { fileSize: 100 } }))
    limited(): object {
      return { run: ledger.run('limited') };
    }
  }

  @Controller('class')
  @Idempotent()
  class WholeClass {
    @Post('one')
    @UseInterceptors(FileInterceptor('file'))
    one(@UploadedFile() file: Upload): object {
      return { run: ledger.run('class one'), size: file.size };
    }
  }

  return [Uploads, WholeClass];
}

const platforms = PLATFORMS.filter((platform) => platform === 'express' || sinceNest12);

describe.each(platforms)('an upload on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  let dest: string;

  beforeAll(async () => {
    dest = await mkdtemp(join(tmpdir(), 'uploads-'));
    app = await shared.start(platform, { controllers: uploadsOf(platform, dest), create: { logger: journal } });
  });
  afterAll(() => rm(dest, { recursive: true, force: true }));
  beforeEach(() => {
    journal.lines.length = 0;
  });

  let attempts = 0;
  const upload = (path: string, key: string, parts: readonly Part[], headers: Record<string, string> = {}): Promise<Answer> => {
    const message = multipart(`----attempt${++attempts}`, parts);
    return send(`${app.url}${path}`, { key, body: message.body, headers: { ...message.headers, ...headers } });
  };
  const FILE: Part = { name: 'file', content: 'a;b\r\n1;2', fileName: 'table.csv', type: 'text/csv' };
  const NOTE: Part = { name: 'note', content: 'for Ann' };

  it.each(['/one', '/disk', '/any', '/class/one'])('is the same one under another boundary: %s', async (path) => {
    const key = newKey();
    const first = await upload(path, key, [NOTE, FILE]);
    const [second, third] = [await upload(path, key, [NOTE, FILE]), await upload(path, key, [FILE, NOTE])];
    expect([first, second, third].map(outcome)).toEqual([201, 'replay', 'replay']);
    expect([runOf(second), third.text]).toEqual([runOf(first), first.text]);
  });

  it('reaches the handler whole', async () => {
    expect(json(await upload('/one', newKey(), [NOTE, FILE]))).toMatchObject({
      name: 'table.csv',
      size: FILE.content.length,
      note: 'for Ann',
    });
  });

  it.each<[what: string, path: string, parts: Part[]]>([
    ['content', '/one', [NOTE, { ...FILE, content: 'a;b\r\n1;3' }]],
    ['content on disk', '/disk', [NOTE, { ...FILE, content: 'a;b\r\n1;3' }]],
    ['file name', '/one', [NOTE, { ...FILE, fileName: 'other.csv' }]],
    ['type', '/one', [NOTE, { ...FILE, type: 'text/plain' }]],
    ['field', '/any', [NOTE, { ...FILE, name: 'other' }]],
    ['note beside it', '/one', [{ ...NOTE, content: 'for Bob' }, FILE]],
    ['number of files', '/any', [NOTE, FILE, { ...FILE, name: 'second' }]],
    ['absence', '/one', [NOTE]],
  ])('is another request with another %s', async (_what, path, parts) => {
    const key = newKey();
    expect(outcome(await upload(path, key, [NOTE, FILE]))).toBe(201);
    expect(outcome(await upload(path, key, parts))).toBe('IDEMPOTENCY_KEY_REUSED');
  });

  it('of several files is compared in the order of each field', async () => {
    const key = newKey();
    const [one, two]: [Part, Part] = [
      { ...FILE, name: 'files', fileName: '1.csv' },
      { ...FILE, name: 'files', fileName: '2.csv' },
    ];
    expect([
      outcome(await upload('/many', key, [one, two])),
      outcome(await upload('/many', key, [one, two])),
      outcome(await upload('/many', key, [two, one])),
    ]).toEqual([201, 'replay', 'IDEMPOTENCY_KEY_REUSED']);
  });

  it('may be without a file, or a form without a key', async () => {
    const key = newKey();
    expect([outcome(await upload('/one', key, [NOTE])), outcome(await upload('/one', key, [NOTE]))]).toEqual([201, 'replay']);
    const message = multipart('b', [NOTE, FILE]);
    const [first, second] = [await send(`${app.url}/one`, message), await send(`${app.url}/one`, message)];
    expect([outcome(first), outcome(second), runOf(first) === runOf(second)]).toEqual([201, 201, false]);
  });

  it('on such a route may still be no multipart at all', async () => {
    const key = newKey();
    const post = (note: string): Promise<Answer> => send(`${app.url}/one`, { key, body: { note } });
    expect([outcome(await post('a')), outcome(await post('a')), outcome(await post('b'))]).toEqual([
      201,
      'replay',
      'IDEMPOTENCY_KEY_REUSED',
    ]);
  });

  it.each(['/wrong-order', '/no-interceptor', '/other-interceptor'])(
    'whose parts are not parsed is refused with 500, the remedy in the log, and a free key: %s',
    async (path) => {
      const key = newKey();
      const before = ledger.total;
      const answer = await upload(path, key, [NOTE, FILE]);
      expect([answer.status, codeOf(answer), ledger.total, await shared.records(key)]).toEqual([
        500,
        'IDEMPOTENCY_REQUEST_UNREADABLE',
        before,
        0,
      ]);
      expect(journal.own('error').join('\n')).toMatch(/@Idempotent\(\) above @UseInterceptors\(FileInterceptor/);
      expect(answer.text).not.toContain('FileInterceptor');
      expect(journal.lines.join('\n')).not.toMatch(new RegExp(`${key}|for Ann|table\\.csv`));
    },
  );

  it('is compared by the route’s own fingerprint, where it has one', async () => {
    const key = newKey();
    const first = await upload('/chosen', key, [FILE], { 'x-digest': 'd1' });
    const second = await upload('/chosen', key, [{ ...FILE, content: 'resized' }], { 'x-digest': 'd1' });
    const third = await upload('/chosen', key, [FILE], { 'x-digest': 'd2' });
    expect([first, second, third].map(outcome)).toEqual([201, 'replay', 'IDEMPOTENCY_KEY_REUSED']);
  });

  it('that the file interceptor refuses leaves the key free', async () => {
    const key = newKey();
    const refused = await upload('/limited', key, [{ ...FILE, content: 'x'.repeat(101) }]);
    expect([refused.status, await shared.records(key)]).toEqual([413, 0]);
    expect(outcome(await upload('/limited', key, [FILE]))).toBe(201);
  });
});
