/**
 * The bytes of an answer that the application has written and nobody has sent, in order. They are
 * kept as they came: joined once, when they leave or are recorded as a whole.
 */
import type { Callback } from './written-parts.js';

interface Part {
  readonly bytes: Buffer;
  /** Of a writer who was told to wait until the bytes are really written. */
  readonly written: Callback | undefined;
}

export class KeptParts {
  #parts: Part[] = [];
  #size = 0;
  #whole: Buffer | undefined;

  get size(): number {
    return this.#size;
  }

  get count(): number {
    return this.#parts.length;
  }

  add(bytes: Buffer, written?: Callback): void {
    // Most answers have one, and room for more would cost more than it.
    if (this.#parts.length === 0) this.#parts = [{ bytes, written }];
    else this.#parts.push({ bytes, written });
    this.#size += bytes.length;
    this.#whole = undefined;
  }

  /** Everything in one piece. Most answers are one already; others are joined once, though they are recorded and sent. */
  joined(): Buffer {
    const [first] = this.#parts;
    if (this.#parts.length === 1 && first) return first.bytes;
    return (this.#whole ??= Buffer.concat(this.#parts.map(({ bytes }) => bytes)));
  }

  /**
   * Gives the parts to `write` until it answers `false` or only `butLast` are left; whether it came that far.
   */
  pour(write: (bytes: Buffer) => boolean, butLast: number): boolean {
    while (this.#parts.length > butLast) {
      const part = this.#parts.shift();
      if (part === undefined) break;
      this.#size -= part.bytes.length;
      this.#whole = undefined;
      const more = write(part.bytes);
      if (part.written) process.nextTick(part.written);
      if (!more) return false;
    }
    return true;
  }

  /** Forgets the bytes. Whoever waits for them to be written waits no longer. */
  drop(error?: Error): void {
    const dropped = this.#parts;
    this.#parts = [];
    for (const { written } of dropped) if (written) process.nextTick(written, error);
    this.#size = 0;
    this.#whole = undefined;
  }
}
