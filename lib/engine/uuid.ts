/** Writes 16 bytes as a UUID's text, as Postgres prints them. No version bits are set: all 128 are ours. */
export function uuidText(bytes: Buffer): string {
  return uuidOfHex(bytes.toString('hex', 0, 16));
}

const HYPHEN = 0x2d;

/**
 * The same of bytes in hex, from that place on; more than 16 of them are left out. It is written
 * character by character: put together of slices it would take ten times the memory until it is read.
 */
export function uuidOfHex(hex: string, from = 0): string {
  const at = (index: number): number => hex.charCodeAt(from + index);
  // prettier-ignore
  return String.fromCharCode(
    at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), HYPHEN,
    at(8), at(9), at(10), at(11), HYPHEN,
    at(12), at(13), at(14), at(15), HYPHEN,
    at(16), at(17), at(18), at(19), HYPHEN,
    at(20), at(21), at(22), at(23), at(24), at(25), at(26), at(27), at(28), at(29), at(30), at(31),
  );
}
