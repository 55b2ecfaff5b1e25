/**
 * Several texts as one run of bytes that can be read in one way only: each has its length in
 * front. Joining with a separator would let a client move the border between two of them.
 */

/** Fixed width, so that a length can't be mistaken for content. Four bytes: no Buffer we digest is longer than 4 GiB. */
const LENGTH_BYTES = 4;

export function framed(parts: readonly (string | Uint8Array)[]): Buffer {
  const bytes = Buffer.allocUnsafe(parts.reduce((sum, part) => sum + LENGTH_BYTES + Buffer.byteLength(part), 0));
  let at = 0;
  for (const part of parts) {
    const from = at + LENGTH_BYTES;
    if (typeof part === 'string') at = from + bytes.write(part, from, 'utf8');
    else {
      bytes.set(part, from);
      at = from + part.length;
    }
    bytes.writeUInt32BE(at - from, from - LENGTH_BYTES);
  }
  return bytes;
}

/** The frame's head alone, for content that is too large to be copied behind it. */
export function lengthOf(byteLength: number): Buffer {
  const head = Buffer.allocUnsafe(LENGTH_BYTES);
  head.writeUInt32BE(byteLength);
  return head;
}
