/**
 * When keys were read that were read only once lately. In a crowd of keys most never come again, and an
 * object for each, kept for as long as it might, is just old enough to be dear when it is thrown away. Here
 * each leaves two numbers, in a place that others share: whoever comes later takes it over.
 */

/** A power of two. A key that comes again within a moment finds its place untouched, unless thousands of others have come. */
const PLACES = 4096;

export class ReadOnce {
  /** The time of the last read in each place, and of which key it was, as far as 32 bits tell. */
  readonly #at = new Float64Array(PLACES).fill(-Infinity);
  readonly #marks = new Uint32Array(PLACES);

  /**
   * Notes a read.
   *
   * @param id a uuid made of a digest, so that any of its digits will do
   * @returns when it was read before, as far as that is known
   */
  note(id: string, now: number): number | undefined {
    const place = bitsIn(id, 24) & (PLACES - 1);
    const mark = bitsIn(id, 0) >>> 0;
    const before = this.#marks[place] === mark ? this.#at[place] : undefined;
    this.#marks[place] = mark;
    this.#at[place] = now;
    return before === -Infinity ? undefined : before;
  }

  clear(): void {
    this.#at.fill(-Infinity);
  }
}

const DIGITS = 8;

/** Of eight of its digits; hyphens are between the places that are read. */
function bitsIn(id: string, from: number): number {
  let bits = 0;
  for (let i = from; i < from + DIGITS; i += 1) {
    const code = id.charCodeAt(i);
    bits = (bits << 4) | (code < 0x3a ? code & 0xf : (code & 0xf) + 9);
  }
  return bits;
}
