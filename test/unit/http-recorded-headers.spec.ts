import * as zlib from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { contentCodings, undoContentCodings } from '../../lib/http/content-coding.js';
import { recordedHeaders, toRecordedResponse } from '../../lib/http/recorded-headers.js';
import type { HeldAnswer } from '../../lib/http/response-tap.js';

const KEPT = new Set(['content-type', 'link', 'etag', 'x-count']);
const TEXT = Buffer.from('the quick brown fox '.repeat(100));
const LIMIT = 1024 * 1024;

const held = (headers: HeldAnswer['headers'], body: Buffer, status = 200): HeldAnswer => ({ status, headers, body, truncated: false });

describe('recordedHeaders', () => {
  it('keeps what is to be kept, in lower case and in the order it was set', () => {
    const headers = { 'X-Other': 'o', ETag: '"1"', 'content-type': 'text/plain', 'set-cookie': ['a'], 'x-count': 5, 'x-none': undefined };
    expect(recordedHeaders(headers, KEPT)).toEqual([
      ['etag', '"1"'],
      ['content-type', 'text/plain'],
      ['x-count', '5'],
    ]);
  });

  it('keeps a list as a list', () => {
    const link = ['<a>', '<b>'];
    const recorded = recordedHeaders({ link }, KEPT);
    link.push('<c>');
    expect(recorded).toEqual([['link', ['<a>', '<b>']]]);
  });

  it('never keeps what describes a transfer, even when asked to', () => {
    const all = { 'content-length': 4, 'content-encoding': 'gzip', 'transfer-encoding': 'chunked' };
    expect(recordedHeaders(all, new Set(Object.keys(all)))).toEqual([]);
  });
});

describe('toRecordedResponse', () => {
  it('is there at once, with the very bytes, where there is no content coding', () => {
    const recorded = toRecordedResponse(held({ 'content-type': 'text/plain' }, TEXT, 201), KEPT, LIMIT);
    expect(recorded).toEqual({ status: 201, headers: [['content-type', 'text/plain']], body: TEXT });
    expect((recorded as { body: Buffer }).body).toBe(TEXT);
  });

  it.each<[string, Buffer]>([
    ['gzip', zlib.gzipSync(TEXT)],
    ['X-GZIP', zlib.gzipSync(TEXT)],
    ['deflate', zlib.deflateSync(TEXT)],
    ['deflate', zlib.deflateRawSync(TEXT)],
    ['br', zlib.brotliCompressSync(TEXT)],
    ['gzip, br', zlib.brotliCompressSync(zlib.gzipSync(TEXT))],
    ['identity, gzip', zlib.gzipSync(TEXT)],
  ])('undoes %s', async (coding, body) => {
    const recorded = await toRecordedResponse(held({ 'content-encoding': coding, etag: '"1"' }, body), KEPT, LIMIT);
    expect(recorded).toEqual({ status: 200, headers: [['etag', '"1"']], body: TEXT });
  });

  it.each<[string, string, Buffer]>([
    ['is not known', 'compress', TEXT],
    ['is known only in part', 'foo, gzip', zlib.gzipSync(TEXT)],
    ['is not what the header says', 'gzip', TEXT],
    ['ends too early', 'gzip', zlib.gzipSync(TEXT).subarray(0, 20)],
  ])('keeps bytes and header as they are when the coding %s', async (_name, coding, body) => {
    const recorded = await toRecordedResponse(held({ 'content-encoding': coding }, body), KEPT, LIMIT);
    expect(recorded).toEqual({ status: 200, headers: [['content-encoding', coding]], body });
  });

  it('is nothing for a body that is too large once decoded, and does not decode it to find out', async () => {
    const bomb = zlib.gzipSync(Buffer.alloc(64 * 1024 * 1024));
    expect(await toRecordedResponse(held({ 'content-encoding': 'gzip' }, bomb), KEPT, LIMIT)).toBeUndefined();
    expect(await toRecordedResponse(held({ 'content-encoding': 'gzip' }, zlib.gzipSync(TEXT)), KEPT, TEXT.length - 1)).toBeUndefined();
    expect(await toRecordedResponse(held({ 'content-encoding': 'gzip' }, zlib.gzipSync(TEXT)), KEPT, TEXT.length)).toMatchObject({
      body: TEXT,
    });
  });

  it('has no coding where there is no body', () => {
    const recorded = toRecordedResponse(held({ 'content-encoding': 'gzip', etag: '"1"' }, Buffer.alloc(0), 304), KEPT, LIMIT);
    expect(recorded).toEqual({ status: 304, headers: [['etag', '"1"']], body: Buffer.alloc(0) });
  });
});

describe('content codings', () => {
  it('are read from any form of the field', () => {
    expect(contentCodings(undefined)).toEqual([]);
    expect(contentCodings('identity')).toEqual([]);
    expect(contentCodings(' GZip ,br,')).toEqual(['gzip', 'br']);
    expect(contentCodings(['gzip', 'br'])).toEqual(['gzip', 'br']);
  });

  it('include zstd where Node has it, and are left alone where it has not', async () => {
    const { zstdCompressSync } = zlib as { zstdCompressSync?: (body: Buffer) => Buffer };
    const coded = zstdCompressSync?.(TEXT) ?? TEXT;
    expect(await undoContentCodings(coded, ['zstd'], LIMIT)).toEqual(zstdCompressSync ? { kind: 'plain', body: TEXT } : { kind: 'coded' });
  });
});
