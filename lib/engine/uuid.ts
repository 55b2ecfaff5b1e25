/** Writes 16 bytes as a UUID's text, as Postgres prints them. No version bits are set: all 128 are ours. */
export function uuidText(bytes: Buffer): string {
  return uuidOfHex(bytes.toString('hex', 0, 16));
}

/** The same of bytes in hex; more than 16 of them are left out. */
export function uuidOfHex(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
