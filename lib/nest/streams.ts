/** Finds the stream in what a handler returned. */
import type { Readable } from 'node:stream';

/** A `StreamableFile` of any copy of Nest, told by what it offers. */
export function streamOf(value: unknown): Readable | undefined {
  if (typeof value !== 'object' || value === null || !('getStream' in value) || typeof value.getStream !== 'function') return undefined;
  return value.getStream() as Readable;
}

/** Whether it is one, in whatever wrapping frameworks take. */
export function isStream(value: unknown): boolean {
  return streamOf(value) !== undefined || (typeof value === 'object' && value !== null && 'pipe' in value);
}
