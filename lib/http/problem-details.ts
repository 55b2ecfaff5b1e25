/**
 * An error of ours as the client reads it: RFC 9457, or the shape of Nest's own exceptions.
 */
import { STATUS_CODES } from 'node:http';
import type { IdempotencyError } from '../contract/errors.js';
import type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';

export type ErrorFormat = 'problem' | 'nest';

export interface Problem {
  readonly status: number;
  /** Without the Content-Type, which frameworks set on their own path. */
  readonly headers: RecordedHeaders;
  readonly contentType: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Where a problem type is explained. A type is compared, not fetched, so it must never change (RFC 9457, section 3.1.1). */
const PROBLEM_TYPES = 'https://www.npmjs.com/package/nestjs-idempotency-pg';

export function problemOf(error: IdempotencyError, format: ErrorFormat): Problem {
  return { status: error.status, headers: headersOf(error), ...(format === 'problem' ? problemBody(error) : nestBody(error)) };
}

/** The same as a whole answer, for where no framework renders it any more. */
export function problemResponse(error: IdempotencyError, format: ErrorFormat): RecordedResponse {
  const { status, headers, contentType, body } = problemOf(error, format);
  return { status, headers: [['content-type', contentType], ...headers], body: Buffer.from(JSON.stringify(body)) };
}

function headersOf(error: IdempotencyError): RecordedHeaders {
  const headers: [string, string][] = [['cache-control', 'no-store']];
  if (error.retryAfter !== undefined) headers.push(['retry-after', String(error.retryAfter)]);
  return headers;
}

function problemBody({ code, title, status, message }: IdempotencyError): Pick<Problem, 'contentType' | 'body'> {
  const type = `${PROBLEM_TYPES}#${code.toLowerCase()}`;
  return { contentType: 'application/problem+json', body: { type, title, status, detail: message, code } };
}

function nestBody({ code, title, status, message }: IdempotencyError): Pick<Problem, 'contentType' | 'body'> {
  return { contentType: 'application/json', body: { statusCode: status, error: STATUS_CODES[status] ?? title, code, message } };
}
