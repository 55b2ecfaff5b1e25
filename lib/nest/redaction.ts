/**
 * Applies a route's `redact` to what is about to be stored. Once the work is done nothing may be thrown:
 * a redactor that fails costs the replay, and what it should have stripped is not stored either.
 */
import { validateHeaderValue } from 'node:http';
import type { Logger } from '@nestjs/common';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { faultInReplayHeaders } from './header-names.js';
import type { RedactableAnswer } from './options.js';
import type { ResolvedRoute } from './resolve-options.js';

type Rules = Pick<ResolvedRoute, 'handler' | 'maxBodyBytes' | 'redact'>;

/** `undefined` when the redactor has failed, which is told to the log without a word of the answer. */
export function redacted({ handler, maxBodyBytes, redact }: Rules, answer: RecordedResponse, logger: Logger): RecordedResponse | undefined {
  if (redact === undefined) return answer;
  try {
    // The first client gets these bytes, whatever the redactor does with its own.
    const stripped: unknown = redact({
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      body: Buffer.from(answer.body),
    });
    return recorded(stripped, answer.status, maxBodyBytes);
  } catch (error) {
    const reason =
      error instanceof Nonsense ? `returned ${error.message}` : `threw (${error instanceof Error ? error.name : typeof error})`;
    logger.error(
      `${handler}: redact ${reason}, so the answer was not stored and can't be replayed. Let it return { status, headers, body }.`,
    );
    return undefined;
  }
}

/** What would be another answer, or could not be sent again, is none. */
function recorded(value: unknown, status: number, maxBodyBytes: number): RecordedResponse {
  if (value instanceof Promise) value.catch(() => undefined); // it is refused below, whatever becomes of it
  if (!hasParts(value)) throw new Nonsense('something that is no answer');
  if (value.status !== status) throw new Nonsense('another status');
  if (!(value.body instanceof Uint8Array)) throw new Nonsense('a body that is no Buffer');
  if (value.body.length > maxBodyBytes) throw new Nonsense('more than maxBodyBytes');
  return { status, headers: fieldsOf(value.headers), body: Buffer.from(value.body) };
}

function hasParts(value: unknown): value is { [Part in keyof RedactableAnswer]: unknown } {
  return typeof value === 'object' && value !== null && 'status' in value && 'headers' in value && 'body' in value;
}

function fieldsOf(headers: unknown): [string, string | string[]][] {
  if (typeof headers !== 'object' || headers === null) throw new Nonsense('headers that are no object');
  const fields = Object.entries(headers as Record<string, unknown>).filter(([, value]) => value !== undefined);
  // `content-encoding` comes with a body whose coding could not be undone, and stays with it.
  const names = fields.map(([name]) => name).filter((name) => name !== 'content-encoding');
  if (faultInReplayHeaders(names) !== undefined) throw new Nonsense('a header that is never replayed');
  return fields.map(([name, value]) => [name.toLowerCase(), fieldValue(name, value)]);
}

function fieldValue(name: string, value: unknown): string | string[] {
  const lines: unknown[] = Array.isArray(value) ? value : [value];
  for (const line of lines) {
    if (typeof line !== 'string') throw new Nonsense('a header that is no text');
    validateHeaderValue(name, line);
  }
  return Array.isArray(value) ? (lines as string[]) : (lines[0] as string);
}

/** Says what was returned, as the end of a sentence; never leaves this file. */
class Nonsense extends Error {}
