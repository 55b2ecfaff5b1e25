/**
 * The digest of what a retry must repeat. The bytes digested here are a stored format: they begin
 * with its version, every part has its length in front, and every kind of content its tag.
 */
import { createHash, createHmac, hash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { canonicalJson } from './canonical-json.js';
import { framed, lengthOf } from './framing.js';
import { normalMediaType } from './media-type.js';

const FORMAT_VERSION = '1';

/** Code units. Up to here a copy and one call cost less than a digest that is fed piece by piece. */
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
  const { head, content } = layOut(parts);
  const small = [FORMAT_VERSION, parts.of, ...head];
  // By way of hex: it is ready sooner than a Buffer of OpenSSL's own.
  if (secret === undefined && content.length <= COPIED_UP_TO) return Buffer.from(hash('sha256', framed([...small, content]), 'hex'), 'hex');
  const digest = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
  digest.update(framed(small));
  if (typeof content === 'string') digest.update(lengthOf(Buffer.byteLength(content))).update(content, 'utf8');
  else digest.update(lengthOf(content.byteLength)).update(content);
  return digest.digest();
}

/** Small parts, which are framed together, and the one that may be large and is then not copied for it. */
interface Layout {
  readonly head: readonly string[];
  readonly content: string | Uint8Array;
}

function layOut(parts: FingerprintParts): Layout {
  switch (parts.of) {
    case 'request': {
      const { kind, content } = layOutContent(parts.content);
      return { head: [parts.method, parts.path, sortedQuery(parts.query), normalMediaType(parts.contentType), kind], content };
    }
    case 'choice':
      return { head: [parts.method, parts.path], content: jsonText(parts.value) };
    case 'choice-alone':
      return { head: [], content: jsonText(parts.value) };
    case 'key':
      return { head: [], content: parts.key };
  }
}

function layOutContent(content: Content): { readonly kind: Content['kind']; readonly content: string | Uint8Array } {
  switch (content.kind) {
    case 'none':
      return { kind: 'none', content: '' };
    case 'json':
      return { kind: 'json', content: jsonText(content.value) };
    case 'bytes':
      return { kind: 'bytes', content: content.bytes };
    case 'multipart':
      return {
        kind: 'multipart',
        content: framed([jsonText(content.fields), ...byName(content.files, (file) => file.field).flatMap(fileParts)]),
      };
  }
}

function fileParts(file: FileDigest): (string | Uint8Array)[] {
  return [file.field, file.fileName, normalMediaType(file.mediaType), String(file.size), file.digest];
}

/** No JSON text is empty, so this tells `undefined` from every value. */
function jsonText(value: unknown): string {
  return canonicalJson(value) ?? '';
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
