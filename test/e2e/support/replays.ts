/** What makes an answer the same answer. */
import { ALWAYS_KEPT_HEADERS } from '../../../lib/contract/recorded-response.js';
import type { Answer } from './wire.js';

/** Status, bytes and kept header fields, each field for itself. */
export function essence(answer: Answer, ...alsoKept: string[]): unknown {
  const kept = [...ALWAYS_KEPT_HEADERS, ...alsoKept].map((name) => name.toLowerCase());
  return {
    status: answer.status,
    body: answer.body.toString('latin1'),
    headers: Object.fromEntries(kept.flatMap((name) => (answer.headers[name] === undefined ? [] : [[name, answer.headers[name]]]))),
  };
}
