/** How things are called on the page: outcomes, values, and how often something happened. */

/** @import { Cell, Outcome, Row } from './types.js' */

/**
 * What an outcome is, for somebody who looks at a list of them.
 *
 * @param {Outcome} outcome
 * @returns {{ tone: 'good' | 'replay' | 'refused' | 'failed' | 'lost', text: string }}
 */
export function labelOf(outcome) {
  if (outcome.kind === 'lost') return { tone: 'lost', text: 'The answer was lost' };
  const { status, headers } = outcome;
  if (headers.get('idempotent-replayed') === 'true') return { tone: 'replay', text: 'Replay' };
  if (status === 304) return { tone: 'replay', text: 'Not modified' };
  if (status < 400) return { tone: 'good', text: 'Carried out' };
  return status < 500 ? { tone: 'refused', text: 'Refused' } : { tone: 'failed', text: 'Failed' };
}

/** @param {string} body */
export function codeOf(body) {
  const parsed = parse(body);
  return typeof parsed?.['code'] === 'string' ? parsed['code'] : undefined;
}

/**
 * @param {string} text
 * @returns {Record<string, unknown> | undefined} the JSON object that it is, if it is one
 */
export function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} body @returns {string} JSON with room to breathe, in as few lines as there is width for */
export function spaced(body) {
  const parsed = parse(body);
  return parsed === undefined ? body : JSON.stringify(parsed, null, 1).replace(/\n\s*/g, ' ');
}

/** @param {string} text such as a key: its ends are enough to know it again */
export function shortened(text) {
  return text.length > 16 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text;
}

const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/**
 * @param {Cell | undefined} value
 * @param {string} kind as the shop names it beside each column
 */
export function shown(value, kind) {
  if (value === null || value === undefined) return '—';
  if (kind === 'money') return money(Number(value));
  if (kind === 'time') return TIME.format(new Date(value));
  return String(value);
}

const UNITS = /** @type {const} */ ([
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
]);

/**
 * @param {string} time ISO 8601
 * @returns {string} how long it is until then, in its two largest units at most: `23 h 59 min`
 */
export function until(time) {
  let left = Math.max(0, Date.parse(time) - Date.now());
  const parts = [];
  for (const [unit, ms] of UNITS) {
    const count = Math.floor(left / ms);
    left -= count * ms;
    if (count > 0 && parts.length < 2) parts.push(`${count} ${unit}`);
  }
  return parts.join(' ') || 'a moment';
}

/** @param {number} cents */
export function money(cents) {
  return (cents / 100).toFixed(2);
}

/**
 * @param {readonly Row[]} rows
 * @param {string} column
 */
export function total(rows, column) {
  return rows.reduce((sum, row) => sum + Number(row[column]), 0);
}

/**
 * @param {string} column
 * @param {string} value
 * @returns {(row: Row) => boolean}
 */
export function isTo(column, value) {
  return (row) => row[column] === value;
}

/** @param {number} count */
export function times(count) {
  if (count === 0) return 'not at all';
  return count === 1 ? 'once' : `${count} times`;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
