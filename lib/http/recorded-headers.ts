/**
 * From an answer as the application wrote it to the answer as it is kept: which headers, and the
 * body before any content coding.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';
import { contentCodings, undoContentCodings } from './content-coding.js';
import type { HeldAnswer } from './response-tap.js';

/** They tell of the bytes of one transfer, which a replay may send in other ways. */
const OF_THE_TRANSFER: ReadonlySet<string> = new Set(['content-length', 'content-encoding', 'transfer-encoding']);

/** The headers whose names are in `kept`, in the order they were set. */
export function recordedHeaders(headers: OutgoingHttpHeaders, kept: ReadonlySet<string>): RecordedHeaders {
  const recorded: [string, string | readonly string[]][] = [];
  for (const field of Object.keys(headers)) {
    const value = headers[field];
    const name = field.toLowerCase();
    if (value === undefined || !kept.has(name) || OF_THE_TRANSFER.has(name)) continue;
    recorded.push([name, Array.isArray(value) ? value.map(String) : String(value)]);
  }
  return recorded;
}

/**
 * `undefined` where the decoded body would be larger than `maxBodyBytes`: such an answer is sealed.
 * An answer without a content coding, which is nearly every one, is there at once and without a copy.
 */
export function toRecordedResponse(
  answer: HeldAnswer,
  kept: ReadonlySet<string>,
  maxBodyBytes: number,
): RecordedResponse | Promise<RecordedResponse | undefined> {
  const headers = recordedHeaders(answer.headers, kept);
  const codings = answer.body.length === 0 ? [] : contentCodings(answer.headers['content-encoding']);
  if (codings.length === 0) return { status: answer.status, headers, body: answer.body };
  return decoded({ status: answer.status, headers, body: answer.body }, codings, maxBodyBytes);
}

async function decoded(answer: RecordedResponse, codings: readonly string[], maxBodyBytes: number): Promise<RecordedResponse | undefined> {
  const uncoded = await undoContentCodings(answer.body, codings, maxBodyBytes);
  switch (uncoded.kind) {
    case 'plain':
      return { ...answer, body: uncoded.body };
    case 'coded':
      return { ...answer, headers: [...answer.headers, ['content-encoding', codings.join(', ')]] };
    case 'too-large':
      return undefined;
  }
}
