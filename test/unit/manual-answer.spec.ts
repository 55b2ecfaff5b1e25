import { describe, expect, it } from '@jest/globals';
import { recordedAnswer } from '../../lib/nest/manual-answer.js';

describe('an answer given by hand', () => {
  it.each<[string, unknown, string, string | undefined]>([
    ['a text as it is', 'paid', 'paid', 'text/plain; charset=utf-8'],
    ['an empty text', '', '', 'text/plain; charset=utf-8'],
    ['bytes as they are', new Uint8Array([112, 97]), 'pa', 'application/octet-stream'],
    ['an object as JSON', { paid: true }, '{"paid":true}', 'application/json; charset=utf-8'],
    ['a list as JSON', [1, null], '[1,null]', 'application/json; charset=utf-8'],
    ['null as JSON', null, 'null', 'application/json; charset=utf-8'],
    ['a number as JSON', 0, '0', 'application/json; charset=utf-8'],
    ['nothing as an empty answer', undefined, '', undefined],
  ])('takes %s', (_, body, text, type) => {
    const answer = recordedAnswer({ status: 200, body });
    expect([answer.status, answer.body.toString(), answer.headers]).toEqual([
      200,
      text,
      type === undefined ? [] : [['content-type', type]],
    ]);
  });

  it('keeps its headers in lower case, and a type of its own', () => {
    const headers = { 'Content-Type': 'text/csv', Link: ['</a>', '</b>'] };
    expect(recordedAnswer({ status: 201, headers, body: 'a;b' }).headers).toEqual([
      ['content-type', 'text/csv'],
      ['link', ['</a>', '</b>']],
    ]);
  });

  it('does not change with the bytes it was given', () => {
    const bytes = Buffer.from('paid');
    const answer = recordedAnswer({ status: 200, body: bytes });
    bytes.fill(0);
    expect(answer.body.toString()).toBe('paid');
  });

  it.each([99, 100, 199, 600, 200.5, Number.NaN, '200' as unknown as number])('has no status %p', (status) => {
    expect(() => recordedAnswer({ status })).toThrow('200 to 599');
  });

  it.each<[string, Record<string, string | string[]>, RegExp]>([
    ['no name at all', { 'X Cost': '1' }, /no header name/],
    ['one connection’s', { 'Transfer-Encoding': 'chunked' }, /one connection/],
    ['a computed one', { 'content-length': '7' }, /computed/],
    ['a session', { 'Set-Cookie': 'a=b' }, /session/],
    ['a value of two lines', { location: '/a\r\nSet-Cookie: a=b' }, /Invalid character/],
    ['a list with such a value', { link: ['</a>', '\n'] }, /Invalid character/],
  ])('has no header that could not be sent again: %s', (_, headers, fault) => {
    expect(() => recordedAnswer({ status: 200, headers })).toThrow(fault);
  });
});
