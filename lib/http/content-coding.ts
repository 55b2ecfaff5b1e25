/**
 * Undoes what a compressing plugin did to an answer before we saw it, so that a replay suits a
 * client that accepts something else.
 */
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';

export type Uncoded =
  | { readonly kind: 'plain'; readonly body: Buffer }
  /** A coding that this Node does not know, or bytes that are not what the header says. */
  | { readonly kind: 'coded' }
  | { readonly kind: 'too-large' };

type Inflater = (body: Buffer, options: { readonly maxOutputLength: number }) => Promise<Buffer>;

/** The codings of a Content-Encoding field in the order they were applied, without `identity`. */
export function contentCodings(field: number | string | readonly string[] | undefined): readonly string[] {
  if (field === undefined) return [];
  return String(field)
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== '' && coding !== 'identity');
}

/** All of the codings or none: half a decoding would need a header that nobody has written. */
export async function undoContentCodings(body: Buffer, codings: readonly string[], maxBytes: number): Promise<Uncoded> {
  let plain = body;
  for (const coding of codings.toReversed()) {
    const inflate = inflaterFor(coding, plain);
    if (inflate === undefined) return { kind: 'coded' };
    try {
      plain = await inflate(plain, { maxOutputLength: Math.max(1, maxBytes) });
    } catch (error) {
      return { kind: isTooLarge(error) ? 'too-large' : 'coded' };
    }
  }
  return plain.length > maxBytes ? { kind: 'too-large' } : { kind: 'plain', body: plain };
}

function inflaterFor(coding: string, body: Buffer): Inflater | undefined {
  switch (coding) {
    case 'gzip':
    case 'x-gzip':
      return promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip);
    case 'deflate':
      return hasZlibHeader(body)
        ? promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.inflate)
        : promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.inflateRaw);
    case 'br':
      return promisify<Buffer, zlib.BrotliOptions, Buffer>(zlib.brotliDecompress);
    case 'zstd':
      return zstdInflater();
    default:
      return undefined;
  }
}

/** `deflate` means the zlib format, but senders of bare deflate exist, and a zlib header tells (RFC 1950, section 2.2). */
function hasZlibHeader(body: Buffer): boolean {
  return body.length >= 2 && (body.readUInt8(0) & 0x0f) === 8 && body.readUInt16BE(0) % 31 === 0;
}

/** Node has it from 22.15 on. */
function zstdInflater(): Inflater | undefined {
  const { zstdDecompress } = zlib as { zstdDecompress?: typeof zlib.brotliDecompress };
  return zstdDecompress && promisify<Buffer, zlib.BrotliOptions, Buffer>(zstdDecompress);
}

function isTooLarge(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
}
