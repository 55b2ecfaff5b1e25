/** The shop as a client sees it: requests go out, and an answer comes back or is lost. */
import { uuid } from './uuid.js';

/** @import { Customer, Outcome, PageState, WireRequest } from './types.js' */

/** Understood by the sample's middleware: do the work, and cut the connection where the answer would leave. */
const LOSE = 'X-Demo-Lose-Answer';

/**
 * @param {WireRequest} request
 * @param {{ loseAnswer: boolean }} how
 * @returns {Promise<Outcome>}
 */
export async function send({ method, path, headers, body }, { loseAnswer }) {
  const start = performance.now();
  const ms = () => Math.round(performance.now() - start);
  try {
    const response = await fetch(path, {
      method,
      headers: loseAnswer ? { ...headers, [LOSE]: uuid() } : headers,
      ...(body === undefined ? {} : { body }),
      cache: 'no-store',
    });
    const text = await response.text();
    return { kind: 'answer', status: response.status, reason: response.statusText, headers: response.headers, body: text, ms: ms() };
  } catch {
    return { kind: 'lost', ms: ms() }; // all that a client learns: it does not know how far the server got
  }
}

/** @returns {Promise<readonly Customer[]>} */
export async function customers() {
  return await (await fetch('/page/customers')).json();
}

/**
 * @param {string} story
 * @param {Customer} customer
 * @param {Iterable<string>} keys
 * @returns {Promise<PageState>}
 */
export async function state(story, { token }, keys) {
  const query = new URLSearchParams([['story', story], ...[...keys].map((key) => ['key', key])]);
  const response = await fetch(`/page/state?${query}`, { headers: { Authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(`The shop said ${response.status}.`);
  return response.json();
}

/** @param {Customer} customer */
export async function startAfresh({ token }) {
  const response = await fetch('/page/fresh-data', { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(`The shop said ${response.status}.`);
}
