/**
 * The digest of what a retry must repeat. The bytes digested here are a stored format: they begin
 * with its version, every part has its length in front, and every kind of content its tag.
 */
import { createHash, createHmac, hash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { writeCanonicalJson } from './canonical-json.js';
import { Frames } from './framing.js';
import { normalMediaType } from './media-type.js';

const FORMAT_VERSION = '1';

/** Bytes. Up to here a copy and one call cost less than a digest that is fed piece by piece. */
const COPIED_UP_TO = 16_384;

/** One uploaded file, its content already digested. */
export interface FileDigest {
  readonly field: string;
  readonly fileName: string;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of the content. */
  readonly digest: Uint8Array;
}

/** What a request carries, in the form in which two of them can be compared. */
export type Content =
  | { readonly kind: 'none' }
  /** What a parser made of it: spelling and the order of members don't count. */
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'bytes'; readonly bytes: string | Uint8Array }
  | { readonly kind: 'multipart'; readonly fields: unknown; readonly files: readonly FileDigest[] };

/** Where a request went. */
export interface Target {
  readonly method: string;
  /** As the client sent it, so with the route's parameters filled in. */
  readonly path: string;
}

export type FingerprintParts =
  /** The whole request: the default for keys in a header. */
  | (Target & { readonly of: 'request'; readonly query: string; readonly contentType: string | undefined; readonly content: Content })
  /** What the user's `fingerprint` function returned, for a key in a header. */
  | (Target & { readonly of: 'choice'; readonly value: unknown })
  /** A natural key says by itself what it refers to. */
  | { readonly of: 'key'; readonly key: string }
  /** What the user's `fingerprint` function returned, for a natural key: that alone. */
  | { readonly of: 'choice-alone'; readonly value: unknown };

/** 32 bytes: SHA-256, or HMAC-SHA-256 where there is a secret, so that small bodies can't be guessed from the table. */
export function fingerprintOf(parts: FingerprintParts, secret: KeyObject | undefined): Buffer {
  const frames = new Frames();
  frames.part(FORMAT_VERSION);
  frames.part(parts.of);
  layOut(parts, frames);
  const large = largeContent(parts);
  if (secret === undefined && large === undefined) return sha256(frames.bytes);
  const digest = (secret === undefined ? createHash('sha256') : createHmac('sha256', secret)).update(frames.bytes);
  return (large === undefined ? digest : digest.update(large)).digest();
}

/** By way of a text with a character for each byte: it is ready sooner than a Buffer of OpenSSL's own, and read sooner here than by Node. */
function sha256(bytes: Buffer): Buffer {
  const text = hash('sha256', bytes, 'binary');
  const digest = Buffer.allocUnsafe(text.length);
  for (let i = 0; i < digest.length; i++) digest[i] = text.charCodeAt(i);
  return digest;
}

function layOut(parts: FingerprintParts, frames: Frames): void {
  switch (parts.of) {
    case 'request':
      layOutTarget(parts, frames);
      frames.part(sortedQuery(parts.query));
      frames.part(normalMediaType(parts.contentType));
      frames.part(parts.content.kind);
      return layOutContent(parts.content, frames);
    case 'choice':
      layOutTarget(parts, frames);
      return layOutJson(parts.value, frames);
    case 'choice-alone':
      return layOutJson(parts.value, frames);
    case 'key':
      return frames.part(parts.key);
  }
}

function layOutTarget({ method, path }: Target, frames: Frames): void {
  frames.part(method);
  frames.part(path);
}

function layOutContent(content: Content, frames: Frames): void {
  switch (content.kind) {
    case 'none':
      return frames.part('');
    case 'json':
      return layOutJson(content.value, frames);
    case 'bytes':
      return isLarge(content.bytes) ? frames.head(content.bytes.length) : frames.part(content.bytes);
    case 'multipart':
      return layOutUpload(content, frames);
  }
}

/** Frames in a frame. */
function layOutUpload({ fields, files }: Extract<Content, { kind: 'multipart' }>, frames: Frames): void {
  const start = frames.open();
  layOutJson(fields, frames);
  for (const file of byName(files, ({ field }) => field)) {
    frames.part(file.field);
    frames.part(file.fileName);
    frames.part(normalMediaType(file.mediaType));
    frames.part(String(file.size));
    frames.part(file.digest);
  }
  frames.close(start);
}

/** No JSON text is empty, so an empty part tells `undefined` from every value. */
function layOutJson(value: unknown, frames: Frames): void {
  const start = frames.open();
  writeCanonicalJson(value, frames);
  frames.close(start);
}

/** Content that is digested from where it is, after its head in the frames: it is the last part of all. */
function largeContent(parts: FingerprintParts): Uint8Array | undefined {
  if (parts.of !== 'request' || parts.content.kind !== 'bytes') return undefined;
  return isLarge(parts.content.bytes) ? parts.content.bytes : undefined;
}

/** A text has to be encoded, and so copied, anyway. */
function isLarge(bytes: string | Uint8Array): bytes is Uint8Array {
  return typeof bytes !== 'string' && bytes.length > COPIED_UP_TO;
}

/** Pairs by name; values of a repeated name keep their order, in which they may mean something. They are compared as sent. */
function sortedQuery(query: string): string {
  if (!query.includes('&')) return query;
  return byName(
    query.split('&').filter((pair) => pair !== ''),
    (pair) => pair.split('=', 1)[0] ?? '',
  ).join('&');
}

function byName<T>(items: readonly T[], nameOf: (item: T) => string): T[] {
  return items
    .map((item) => ({ name: nameOf(item), item }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map(({ item }) => item);
}
