/**
 * Several texts as one run of bytes that can be read in one way only: each has its length in
 * front. Joining with a separator would let a client move the border between two of them.
 *
 * Most of them are short and ASCII. Such a text is written here character by character, which takes
 * less than the call of Node's that encodes it, and leaves nothing to the garbage collector.
 */

/** Fixed width, so that a length can't be mistaken for content. Four bytes: no Buffer we digest is longer than 4 GiB. */
const LENGTH_BYTES = 4;

/** Room for what an ordinary request says. Buffers as small as this are cut from a larger one of Node's. */
const FIRST_BYTES = 512;

/** Code units. From here on Node's encoder is faster, for all that it costs to call it. */
const SHORT = 64;

const LAST_ASCII = 0x7f;
const FIRST_PRINTABLE = 0x20;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export class Frames {
  #bytes: Buffer;
  #length = 0;

  /** @param room bytes that are set aside at first; it grows */
  constructor(room = FIRST_BYTES) {
    this.#bytes = Buffer.allocUnsafe(room);
  }

  /** How much is written. */
  get length(): number {
    return this.#length;
  }

  /** What is written: no copy, so it is to be read before more is added. */
  get bytes(): Buffer {
    return this.#length === this.#bytes.length ? this.#bytes : this.#bytes.subarray(0, this.#length);
  }

  /** One part, with its length in front. */
  part(part: string | Uint8Array): void {
    const start = this.open();
    if (typeof part === 'string') this.text(part);
    else this.#copy(part);
    this.close(start);
  }

  /** Begins a part that is written piece by piece. */
  open(): number {
    const start = this.#length;
    this.#reserve(LENGTH_BYTES);
    this.#length = start + LENGTH_BYTES;
    return start;
  }

  /** Ends the part that began there. */
  close(start: number): void {
    this.#writeLength(this.#length - start - LENGTH_BYTES, start);
  }

  /** Only the length, of a part that is too large to be copied behind it. */
  head(length: number): void {
    this.#writeLength(length, this.open());
  }

  /** Takes back what was written since the length was that. */
  backTo(length: number): void {
    this.#length = length;
  }

  /** A piece that is a single character of ASCII. */
  character(code: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = code;
  }

  text(piece: string): void {
    const { length } = piece;
    if (length > SHORT) return this.#encode(piece);
    this.#reserve(length);
    const bytes = this.#bytes;
    let at = this.#length;
    for (let i = 0; i < length; i++) {
      const code = piece.charCodeAt(i);
      if (code > LAST_ASCII) return this.#encode(piece);
      bytes[at++] = code;
    }
    this.#length = at;
  }

  /** As JSON writes a string. */
  quoted(piece: string): void {
    const { length } = piece;
    if (length > SHORT) return this.#encode(JSON.stringify(piece));
    this.#reserve(length + 2);
    const bytes = this.#bytes;
    let at = this.#length;
    bytes[at++] = QUOTE;
    for (let i = 0; i < length; i++) {
      const code = piece.charCodeAt(i);
      if (code < FIRST_PRINTABLE || code > LAST_ASCII || code === QUOTE || code === BACKSLASH) return this.#encode(JSON.stringify(piece));
      bytes[at++] = code;
    }
    bytes[at++] = QUOTE;
    this.#length = at;
  }

  /** Big-endian. */
  #writeLength(length: number, at: number): void {
    const bytes = this.#bytes;
    bytes[at] = length >>> 24;
    bytes[at + 1] = length >>> 16;
    bytes[at + 2] = length >>> 8;
    bytes[at + 3] = length;
  }

  #encode(piece: string): void {
    this.#reserve(Buffer.byteLength(piece));
    this.#length += this.#bytes.write(piece, this.#length);
  }

  #copy(piece: Uint8Array): void {
    this.#reserve(piece.length);
    this.#bytes.set(piece, this.#length);
    this.#length += piece.length;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** The frame's head alone, for content that is too large to be copied behind it. */
export function lengthOf(byteLength: number): Buffer {
  const head = Buffer.allocUnsafe(LENGTH_BYTES);
  head.writeUInt32BE(byteLength);
  return head;
}

export function framed(parts: readonly (string | Uint8Array)[]): Buffer {
  const room = parts.reduce((sum, { length }) => sum + LENGTH_BYTES + length, 0); // to the byte, where all is ASCII
  const frames = new Frames(room);
  for (let i = 0; i < parts.length; i++) frames.part(parts[i]!); // `for … of` would make an object for every step
  return frames.bytes;
}
