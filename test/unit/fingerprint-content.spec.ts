import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { RequestUnreadable } from '../../lib/contract/errors.js';
import type { FilePart, RequestFacts } from '../../lib/http/request-facts.js';
import { contentOf } from '../../lib/nest/request-content.js';

const MULTIPART = 'multipart/form-data; boundary=x';

function request(facts: Partial<RequestFacts>): RequestFacts {
  return {
    method: 'POST',
    path: '/',
    query: '',
    routePattern: '/',
    params: {},
    header: () => [],
    contentType: 'application/json',
    hasContent: true,
    body: undefined,
    rawBody: undefined,
    files: undefined,
    user: undefined,
    ...facts,
  };
}

async function remedyFor(facts: Partial<RequestFacts>): Promise<string> {
  const refused: unknown = await (async () => contentOf(request(facts)))().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(RequestUnreadable);
  return (refused as RequestUnreadable).remedy;
}

describe('contentOf', () => {
  const bytes = Buffer.from('raw bytes');

  it.each<[string, Partial<RequestFacts>, unknown]>([
    ['the parsed body', { body: { a: 1 } }, { kind: 'json', value: { a: 1 } }],
    ['the parsed body rather than its raw bytes', { body: { a: 1 }, rawBody: bytes }, { kind: 'json', value: { a: 1 } }],
    ['a parsed form', { body: { a: '1' }, contentType: 'application/x-www-form-urlencoded' }, { kind: 'json', value: { a: '1' } }],
    ['a parsed null', { body: null }, { kind: 'json', value: null }],
    ['a parsed false', { body: false }, { kind: 'json', value: false }],
    ['a body with a member called pipe', { body: { pipe: 'steel' } }, { kind: 'json', value: { pipe: 'steel' } }],
    ['a text', { body: 'hello', contentType: 'text/plain' }, { kind: 'bytes', bytes: 'hello' }],
    ['a buffer', { body: bytes, contentType: 'application/octet-stream' }, { kind: 'bytes', bytes }],
    ['the raw bytes where nothing was parsed', { rawBody: bytes, contentType: 'text/csv' }, { kind: 'bytes', bytes }],
    ['nothing where nothing was sent', { hasContent: false, contentType: undefined }, { kind: 'none' }],
    ['fields without files', { contentType: MULTIPART, body: { a: '1' } }, { kind: 'multipart', fields: { a: '1' }, files: [] }],
    ['no files and no fields', { contentType: MULTIPART, files: [] }, { kind: 'multipart', fields: undefined, files: [] }],
  ])('takes %s', async (_, facts, content) => {
    expect(await contentOf(request(facts))).toEqual(content);
  });

  it.each<[string, Partial<RequestFacts>, RegExp]>([
    ['content that nothing has parsed', { contentType: 'text/csv' }, /body parser.*rawBody: true.*fingerprint/],
    ['a stream', { body: Readable.from(['a']) }, /body parser/],
    ['a web stream', { body: new ReadableStream() }, /body parser/],
    ['parts that are not parsed yet', { contentType: MULTIPART }, /@Idempotent\(\) above @UseInterceptors\(FileInterceptor.*fingerprint/],
    [
      'parts that are not parsed yet, in another case',
      { contentType: 'Multipart/Mixed; boundary=x', rawBody: bytes },
      /above @UseInterceptors/,
    ],
    [
      'a file that is stored elsewhere',
      { contentType: MULTIPART, files: [{ field: 'f', fileName: 'a', mediaType: 'text/plain', size: 1, content: undefined }] },
      /neither in memory nor on disk.*fingerprint/,
    ],
    [
      'a file that is gone',
      { contentType: MULTIPART, files: [{ field: 'f', fileName: 'a', mediaType: 'text/plain', size: 1, content: { path: '/nowhere/a' } }] },
      /ENOENT.*fingerprint/,
    ],
  ])('refuses %s with a remedy rather than leave it out', async (_, facts, remedy) => {
    expect(await remedyFor(facts)).toMatch(remedy);
  });

  describe('of uploaded files', () => {
    const text = Buffer.alloc(200_000, 'upload ');
    const part = { field: 'f', fileName: 'a.txt', mediaType: 'text/plain', size: text.length };
    let folder: string;

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'content-'));
      await writeFile(join(folder, 'a.txt'), text);
    });
    afterAll(() => rm(folder, { recursive: true }));

    it('digests them alike in memory and on disk, in their order', async () => {
      const files: FilePart[] = [
        { ...part, content: text },
        { ...part, fileName: 'b.txt', content: { path: join(folder, 'a.txt') } },
      ];
      const digest = createHash('sha256').update(text).digest();
      expect(await contentOf(request({ contentType: MULTIPART, body: { note: 'hi' }, files }))).toEqual({
        kind: 'multipart',
        fields: { note: 'hi' },
        files: [
          { ...part, digest },
          { ...part, fileName: 'b.txt', digest },
        ],
      });
    });
  });
});
