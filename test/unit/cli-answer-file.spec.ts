import { readdirSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { readAnswer, writtenAnswer } from '../../lib/cli/answer-file.js';
import { idempotencyMigrationsFor } from '../../migrations/index.js';
import { liveKeysIndexText, migrationTexts } from '../../migrations/texts.js';

describe('an answer in a file', () => {
  it.each([
    ['text', Buffer.from('{"ž": 1}\n')],
    ['nothing', Buffer.alloc(0)],
    ['a byte order mark', Buffer.from('\ufefftext')],
    ['bytes', Buffer.of(0xff, 0, 0x80)],
  ])('comes back as it was written, with a body of %s', (_, body) => {
    const answer = {
      status: 201,
      headers: [
        ['content-type', 'application/x-it'],
        ['link', ['<a>', '<b>']],
      ] as const,
      body,
    };
    expect(readAnswer(JSON.stringify(writtenAnswer(answer)))).toEqual(answer);
  });

  it('is written by hand as resolve() takes it', () => {
    expect(readAnswer('{ "status": 200, "body": { "a": 1 } }')).toEqual({
      status: 200,
      headers: [['content-type', 'application/json; charset=utf-8']],
      body: Buffer.from('{"a":1}'),
    });
    expect(readAnswer('{ "status": 204 }')).toEqual({ status: 204, headers: [], body: Buffer.alloc(0) });
  });

  it.each([
    ['no JSON', 'secret', /no JSON/],
    ['no object', '["secret"]', /no JSON object/],
    ['no status', '{ "body": "secret" }', /status/],
    ['a field that is not known', '{ "status": 200, "secret": 1 }', /not known/],
    ['two bodies', '{ "status": 200, "body": "secret", "bodyBase64": "AA==" }', /two bodies/],
    ['no base64', '{ "status": 200, "bodyBase64": "secret!" }', /base64/],
    ['headers that are a list', '{ "status": 200, "headers": ["secret"] }', /headers/],
    ['a header that is no text', '{ "status": 200, "headers": { "etag": 1 } }', /headers/],
    ['a header that is never replayed', '{ "status": 200, "headers": { "set-cookie": "secret" } }', /set-cookie/],
    ['a header that breaks out of its line', '{ "status": 200, "headers": { "etag": "secret\\r\\nx: y" } }', /etag/],
  ])('is refused when it is %s, and not quoted', (_, json, told) => {
    expect(() => readAnswer(json)).toThrow(expect.objectContaining({ exitCode: 2, message: expect.stringMatching(told) }));
    expect(() => readAnswer(json)).toThrow(expect.objectContaining({ message: expect.not.stringContaining('secret') }));
  });
});

describe('the migrations as texts', () => {
  it('are those of TypeORM and those in the package’s files, in their order', () => {
    const files = readdirSync('migrations/sql')
      .filter((name) => name.endsWith('.up.sql'))
      .sort((a, b) => a.localeCompare(b));
    expect([...migrationTexts, liveKeysIndexText].map(({ name }) => `${name}.up.sql`)).toEqual(files);
    expect(idempotencyMigrationsFor({ schema: 'public' })).toHaveLength(migrationTexts.length);
    expect(idempotencyMigrationsFor({ schema: 'public', maxLiveKeys: true })).toHaveLength(files.length);
  });
});
