/**
 * Reads the many forms in which `writeHead`, `write` and `end` may be called, and refuses what Node
 * would refuse there and then: once bytes are held, an error that comes with them comes too late.
 */
import { validateHeaderValue, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import { types } from 'node:util';
import { reasonOf, setReason } from './http2.js';

export type Callback = (error?: Error | null) => void;

export interface WrittenPart {
  /** `undefined` where there is nothing to send. */
  readonly bytes: Buffer | undefined;
  readonly callback: Callback | undefined;
}

/** `write(chunk, encoding?, callback?)` */
export function writtenPart([chunk, ...rest]: readonly unknown[]): WrittenPart {
  return { bytes: toBytes(chunk, rest[0]), callback: rest.find(isCallback) };
}

/** `end(chunk?, encoding?, callback?)` */
export function lastPart(args: readonly unknown[]): WrittenPart {
  const [chunk, encoding] = args;
  const bytes = !chunk || isCallback(chunk) ? undefined : toBytes(chunk, encoding);
  return { bytes, callback: args.find(isCallback) };
}

/** `writeHead(status, reason?, headers?)`, with headers as an object, a flat list or a list of pairs: puts it all on the response. */
export function setWrittenHead(response: ServerResponse, args: readonly unknown[]): void {
  const status = args[0];
  const code = Number(status) | 0;
  if (code < 100 || code > 999) {
    throw Object.assign(new RangeError(`Invalid status code: ${String(status)}`), { code: 'ERR_HTTP_INVALID_STATUS_CODE' });
  }
  const reason = args[1];
  const headers = typeof reason === 'string' ? args[2] : (args[2] ?? reason);
  if (Array.isArray(headers)) setListedHeaders(response, headers);
  else if (headers) setNamedHeaders(response, headers as OutgoingHttpHeaders);
  if (typeof reason === 'string') setReason(response, reason);
  const words = reasonOf(response);
  if (words) validateHeaderValue('statusMessage', words);
  response.statusCode = code;
}

function setNamedHeaders(response: ServerResponse, headers: OutgoingHttpHeaders): void {
  for (const name in headers) if (name && Object.hasOwn(headers, name)) response.setHeader(name, headers[name] as string);
}

/** A list may name a field more than once, and means it. */
function setListedHeaders(response: ServerResponse, list: readonly unknown[]): void {
  const flat = Array.isArray(list[0]) ? list.flat(1) : list;
  if (flat.length % 2 !== 0) {
    throw Object.assign(new TypeError('The list of headers has a name without a value'), { code: 'ERR_INVALID_ARG_VALUE' });
  }
  for (let i = 0; i < flat.length; i += 2) response.removeHeader(String(flat[i]));
  for (let i = 0; i < flat.length; i += 2) response.appendHeader(String(flat[i]), flat[i + 1] as string);
}

function toBytes(chunk: unknown, encoding: unknown): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
  if (Buffer.isBuffer(chunk)) return chunk;
  if (types.isUint8Array(chunk)) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  throw Object.assign(new TypeError('A chunk of an answer must be a string, a Buffer or a Uint8Array'), { code: 'ERR_INVALID_ARG_TYPE' });
}

function isCallback(value: unknown): value is Callback {
  return typeof value === 'function';
}
