import { describe, expect, it } from '@jest/globals';
import { AnswerReader } from '../bench/load/answer-reader.js';

interface Told {
  readonly status: number;
  readonly contentType: string;
  readonly replayed: boolean;
  readonly body: string;
}

function read(chunks: Iterable<Buffer>): Told[] {
  const told: Told[] = [];
  const reader = new AnswerReader(({ body, ...rest }) => told.push({ ...rest, body: body.toString() }));
  for (const chunk of chunks) reader.read(chunk);
  return told;
}

const FIRST = 'HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 12\r\n\r\n{"id":"äö"}';
const REPLAY = 'HTTP/1.1 201 Created\r\nidempotent-replayed: true\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}';
const NOTHING = 'HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n';

const ALL: Told[] = [
  { status: 201, contentType: 'application/json; charset=utf-8', replayed: false, body: '{"id":"äö"}' },
  { status: 201, contentType: 'application/json', replayed: true, body: '{}' },
  { status: 204, contentType: '', replayed: false, body: '' },
];
const BYTES = Buffer.from(FIRST.replace('12', String(Buffer.byteLength('{"id":"äö"}'))) + REPLAY + NOTHING);

describe("the bench's reader of answers", () => {
  it('reads answers that come at once', () => {
    expect(read([BYTES])).toEqual(ALL);
  });

  it('reads the same answers when they come byte by byte', () => {
    expect(read(Array.from(BYTES, (byte) => Buffer.from([byte])))).toEqual(ALL);
  });

  it('reads the same answers whereever they are cut in two', () => {
    for (let cut = 1; cut < BYTES.length; cut += 1) expect(read([BYTES.subarray(0, cut), BYTES.subarray(cut)])).toEqual(ALL);
  });

  it('refuses an answer whose end it can not tell', () => {
    expect(() => read([Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')])).toThrow(/Content-Length/);
  });
});
