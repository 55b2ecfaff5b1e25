/**
 * An answer as a JSON document: what `resolve --answer` reads is what `show --body --json` writes, so
 * that one can be made from the other without losing a byte.
 */
import { recordedAnswer } from '../nest/manual-answer.js';
import type { ManualAnswer } from '../nest/manual-answer.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { UsageError } from './exit-codes.js';

type WrittenAnswer = { readonly status: number; readonly headers: Readonly<Record<string, string | readonly string[]>> } & (
  { readonly body: string } | { readonly bodyBase64: string }
);

/** Text where the bytes are UTF-8, whatever the content type says of them. */
export function writtenAnswer({ status, headers, body }: RecordedResponse): WrittenAnswer {
  const text = textOf(body);
  const head = { status, headers: Object.fromEntries(headers) };
  return text === undefined ? { ...head, bodyBase64: body.toString('base64') } : { ...head, body: text };
}

function textOf(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const FIELDS: ReadonlySet<string> = new Set(['status', 'headers', 'body', 'bodyBase64']);

const FORM = 'Write { "status": 201, "headers": { "content-type": "application/json" }, "body": … }; a body of bytes is "bodyBase64".';

/** @throws UsageError that repeats nothing of what was read */
export function readAnswer(json: string): RecordedResponse {
  const read = parsed(json);
  if (typeof read !== 'object' || read === null || Array.isArray(read)) throw new UsageError(`The answer is no JSON object. ${FORM}`);
  const { status, headers = {}, body, bodyBase64 } = read as Record<string, unknown>;
  const wrong = Object.keys(read).filter((name) => !FIELDS.has(name));
  if (wrong.length > 0)
    throw new UsageError(`The answer has ${wrong.length === 1 ? 'a field that is' : 'fields that are'} not known. ${FORM}`);
  if (!isHeaders(headers)) throw new UsageError(`The answer's headers are no object of texts and lists of texts. ${FORM}`);
  if (body !== undefined && bodyBase64 !== undefined) throw new UsageError(`The answer has two bodies. ${FORM}`);
  const content = bodyBase64 === undefined ? body : bytesOf(bodyBase64);
  try {
    return recordedAnswer({ status: status as number, headers, body: content });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)} ${FORM}`);
  }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new UsageError(`The answer is no JSON. ${FORM}`);
  }
}

function isHeaders(value: unknown): value is NonNullable<ManualAnswer['headers']> {
  const isLine = (line: unknown): boolean => typeof line === 'string';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((field) => isLine(field) || (Array.isArray(field) && field.every(isLine)));
}

function bytesOf(base64: unknown): Buffer {
  const bytes = typeof base64 === 'string' ? Buffer.from(base64, 'base64') : undefined;
  if (bytes === undefined || bytes.toString('base64') !== base64) throw new UsageError(`The answer's bodyBase64 is no base64. ${FORM}`);
  return bytes;
}
