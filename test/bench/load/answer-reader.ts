/**
 * Reads HTTP/1.1 answers as they come over a connection that stays, and no more of them than the
 * bench looks at. It is part of what every figure contains, so it does little: answers must say their length.
 */

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  /** Whether it says that it is a replay. */
  readonly replayed: boolean;
  /** Valid during the call: the bytes may be a part of what was received. */
  readonly body: Buffer;
}

const NONE = Buffer.alloc(0);
const END_OF_HEAD = '\r\n\r\n';
const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;
const CONTENT_TYPE = /\r\ncontent-type: *([^\r]*)/i;
const REPLAYED = /\r\nidempotent-replayed: *true/i;
const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 304]);

export class AnswerReader {
  #unread: Buffer = NONE;

  constructor(private readonly onAnswer: (answer: Answer) => void) {}

  /** @throws where the answer's end can't be told */
  read(chunk: Buffer): void {
    let bytes = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    for (;;) {
      const size = this.#take(bytes);
      if (size === undefined) break;
      bytes = bytes.subarray(size);
    }
    this.#unread = bytes;
  }

  /** How many bytes the first answer has; `undefined` while some of them are still to come. */
  #take(bytes: Buffer): number | undefined {
    const headEnd = bytes.indexOf(END_OF_HEAD);
    if (headEnd < 0) return undefined;
    const head = bytes.toString('latin1', 0, headEnd);
    const status = Number(head.slice(9, 12)); // behind "HTTP/1.1 "
    const bodyStart = headEnd + END_OF_HEAD.length;
    const end = bodyStart + bodyLength(head, status);
    if (bytes.length < end) return undefined;
    this.onAnswer({
      status,
      contentType: CONTENT_TYPE.exec(head)?.[1] ?? '',
      replayed: REPLAYED.test(head),
      body: bytes.subarray(bodyStart, end),
    });
    return end;
  }
}

function bodyLength(head: string, status: number): number {
  const stated = CONTENT_LENGTH.exec(head)?.[1];
  if (stated !== undefined) return Number(stated);
  if (WITHOUT_BODY.has(status)) return 0;
  throw new Error(`An answer of ${status} without Content-Length: the bench reads only answers that say their length.`);
}
