/**
 * Decides in which form a request's content is compared with a retry's, from what parsers and file
 * interceptors have made of it so far. What nobody has read can't be compared, and is refused with
 * the way out rather than left out.
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { RequestUnreadable } from '../contract/errors.js';
import type { Content, FileDigest } from '../engine/fingerprint.js';
import { isMultipart } from '../engine/media-type.js';
import type { FilePart, RequestFacts } from '../http/request-facts.js';

/** At once, but for files, whose content may have to be read. */
export function contentOf(request: RequestFacts): Content | Promise<Content> {
  if (isMultipart(request.contentType)) return multipartContent(request);
  const { body } = request;
  if (isUnreadStream(body)) throw unreadBody();
  if (typeof body === 'string' || body instanceof Uint8Array) return { kind: 'bytes', bytes: body };
  // Parsed before raw: a client that writes the same JSON with other spaces has sent the same request.
  if (body !== undefined) return { kind: 'json', value: body };
  const { rawBody } = request;
  if (rawBody !== undefined) return { kind: 'bytes', bytes: rawBody };
  if (request.hasContent) throw unreadBody();
  return { kind: 'none' };
}

/** By its parts: the bytes differ with every attempt's boundary. */
async function multipartContent(request: RequestFacts): Promise<Content> {
  if (request.body === undefined && request.files === undefined) {
    throw new RequestUnreadable(
      'The multipart parts are not parsed yet when the interceptor runs. Put @Idempotent() above @UseInterceptors(FileInterceptor(…)) on the method, ' +
        'or give it a fingerprint function.',
    );
  }
  const files: FileDigest[] = [];
  for (const file of request.files ?? []) files.push(await digestOf(file)); // one after the other: uploads are large, and file handles few
  return { kind: 'multipart', fields: request.body, files };
}

async function digestOf({ field, fileName, mediaType, size, content }: FilePart): Promise<FileDigest> {
  if (content === undefined) {
    throw new RequestUnreadable(
      'An uploaded file is neither in memory nor on disk, so its content cannot be compared. Give the route a fingerprint function.',
    );
  }
  const hash = createHash('sha256');
  if (content instanceof Uint8Array) hash.update(content);
  else await readInto(hash, content.path);
  return { field, fileName, mediaType, size, digest: hash.digest() };
}

async function readInto(hash: Hash, path: string): Promise<void> {
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch (error) {
    throw new RequestUnreadable(
      `An uploaded file could not be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'}). ` +
        'Keep it until the handler has run, or give the route a fingerprint function.',
    );
  }
}

/** Some parsers hand the content over as a stream. Reading it here would take it from the handler. */
function isUnreadStream(body: unknown): boolean {
  return typeof body === 'object' && body !== null && ('pipe' in body ? typeof body.pipe === 'function' : Symbol.asyncIterator in body);
}

function unreadBody(): RequestUnreadable {
  return new RequestUnreadable(
    'The request has content that nothing has parsed. Register a body parser for its Content-Type, create the application with rawBody: true, ' +
      'or give the route a fingerprint function.',
  );
}
