/**
 * The database beside the requests, as the shop last told it. Rows that were not there before the last
 * click, or have changed since, are marked; the ones that came this moment light up.
 */
import { byId, element } from './elements.js';
import { shortened, shown, until } from './words.js';

/** @import { PageState, RecordRow, Row, TableRows } from './types.js' */

/** The rest is counted. */
const SHOWN_ROWS = 6;

export class DatabasePanel {
  /** How each row was at the last click, by its name. @type {ReadonlyMap<string, string> | undefined} */
  #marked;
  /** How each row was when it was last shown. @type {ReadonlyMap<string, string>} */
  #shown = new Map();
  #text = '';

  /** From here on, what is new or changed is marked. @param {PageState | undefined} state */
  mark(state) {
    this.#marked = state === undefined ? undefined : namesOf(state);
    this.#text = '';
  }

  /**
   * @param {PageState} state
   * @param {string} withoutRecords what is said where there are none
   */
  show(state, withoutRecords) {
    // Times to come are told as “in 2 min”, so it is drawn again when those change, too.
    const text = JSON.stringify([state, withoutRecords, state.records.map(timesOf)]);
    if (text === this.#text) return;
    this.#text = text;
    const names = namesOf(state);
    /** @param {string} name */
    const look = (name) => {
      if (this.#marked === undefined || this.#marked.get(name) === names.get(name)) return { mark: undefined, classes: undefined };
      const arrived = this.#shown.get(name) !== names.get(name);
      return { mark: this.#marked.has(name) ? 'changed' : 'new', classes: arrived ? 'fresh arrived' : 'fresh' };
    };
    byId('records').replaceChildren(...recordsOf(state.records, withoutRecords, look));
    const shop = state.tables.filter(({ owner }) => owner === 'shop');
    const outside = state.tables.filter(({ owner }) => owner === 'outside');
    byId('shop-tables').replaceChildren(...shop.map((table) => tableOf(table, look)));
    byId('outside-tables').replaceChildren(...outside.map((table) => tableOf(table, look)));
    byId('outside').hidden = outside.length === 0;
    this.#shown = names;
  }
}

/** @typedef {(name: string) => { mark: string | undefined, classes: string | undefined }} Look */

/** @param {PageState} state */
function namesOf({ records, tables }) {
  /** @type {Map<string, string>} */
  const names = new Map();
  for (const record of records) names.set(`record/${record.id}`, JSON.stringify({ ...record, lockedUntil: null }));
  for (const { table, rows } of tables) for (const row of rows) names.set(`${table}/${row.id}`, JSON.stringify(row));
  return names;
}

/** @param {RecordRow} record */
function timesOf({ state, lockedUntil, expiresAt }) {
  if (state === 'running') return lockedUntil === null ? '' : `its lease ends in ${until(lockedUntil)}`;
  return expiresAt === null ? '' : `expires in ${until(expiresAt)}`;
}

/**
 * @param {readonly RecordRow[]} records
 * @param {string} withoutRecords
 * @param {Look} look
 */
function recordsOf(records, withoutRecords, look) {
  if (records.length === 0) return [element('p', { class: 'empty' }, withoutRecords)];
  const list = element(
    'ul',
    { class: 'records' },
    ...records.slice(0, SHOWN_ROWS).map((record) => recordOf(record, look(`record/${record.id}`))),
  );
  return [list, ...restOf(records.length)];
}

/**
 * @param {RecordRow} record
 * @param {ReturnType<Look>} look
 */
function recordOf(record, { mark, classes }) {
  const facts = [record.status === null ? undefined : `status ${record.status}`, `attempt ${record.attempt}`, timesOf(record) || undefined];
  return element(
    'li',
    { class: classes },
    element(
      'div',
      { class: 'record-head' },
      element('span', { class: `chip state-${record.state}` }, record.state),
      element('code', { class: 'record-key', title: record.key }, shortened(record.key)),
      markOf(mark),
    ),
    record.operation === '' ? undefined : element('p', { class: 'operation' }, element('code', {}, record.operation)),
    element('p', { class: 'facts' }, facts.filter(Boolean).join(' · ')),
    record.steps.length === 0 ? undefined : stepsOf(record),
  );
}

/** @param {RecordRow} record */
function stepsOf({ steps }) {
  return element(
    'dl',
    { class: 'steps', 'aria-label': 'Steps' },
    ...steps.map(({ name, result }) =>
      element('div', {}, element('dt', {}, `step ${name}`), element('dd', {}, element('code', { title: result }, result))),
    ),
  );
}

/**
 * @param {TableRows} table
 * @param {Look} look
 */
function tableOf({ table, title, columns, rows }, look) {
  const caption = element('h4', {}, title, ' ', element('code', {}, table));
  if (rows.length === 0) return element('div', { class: 'table' }, caption, element('p', { class: 'empty' }, 'Empty.'));
  const names = Object.keys(columns);
  const head = element('tr', {}, ...names.map((name) => element('th', { scope: 'col', class: columns[name] }, name)));
  const body = rows.slice(0, SHOWN_ROWS).map((row) => rowOf(row, columns, look(`${table}/${row.id}`)));
  const made = element('table', { 'aria-label': title }, element('thead', {}, head), element('tbody', {}, ...body));
  return element('div', { class: 'table' }, caption, made, ...restOf(rows.length));
}

/**
 * @param {Row} row
 * @param {Readonly<Record<string, string>>} columns
 * @param {ReturnType<Look>} look
 */
function rowOf(row, columns, { mark, classes }) {
  const cells = Object.entries(columns).map(([name, kind], index) => {
    const text = shown(row[name], kind);
    const content = kind === 'state' ? element('span', { class: `chip state-${text}` }, text) : text;
    return element('td', { class: kind }, content, index === 0 ? markOf(mark) : undefined);
  });
  return element('tr', { class: classes }, ...cells);
}

/** @param {string | undefined} mark */
function markOf(mark) {
  return mark === undefined ? undefined : element('span', { class: 'mark' }, mark);
}

/** @param {number} count */
function restOf(count) {
  return count > SHOWN_ROWS ? [element('p', { class: 'rest' }, `and ${count - SHOWN_ROWS} before`)] : [];
}
