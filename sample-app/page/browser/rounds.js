/** The rounds that the visitor has begun, and which rows came by which of them. */
import { uuid } from './uuid.js';

/** @import { PageState, Round, Row, Seen, TableRows } from './types.js' */

/**
 * @param {string} [key] to begin with; a new one otherwise
 * @returns {Round}
 */
export function newRound(key = uuid()) {
  return {
    key,
    id: uuid(),
    sent: 0,
    wants: new Set(),
    before: [],
    news: new Map(),
    memory: new Map(),
    drafts: new Map(),
    last: undefined,
    tally: undefined,
  };
}

/** All that one customer does in one story. */
export class Visit {
  /** @type {Set<string> | undefined} every row that was ever seen; undefined before the first look */
  #known;
  /** @type {Map<boolean, Round>} by whether protection is on */
  #rounds = new Map();
  /** Keys that were sent, the newest last. @type {Set<string>} */
  keys = new Set();

  /** @param {string | undefined} key of the customer before: that it means another thing by each of them is worth seeing */
  constructor(key) {
    this.#rounds.set(true, newRound(key)).set(false, newRound(key));
  }

  /** @param {boolean} isProtected */
  round(isProtected) {
    return /** @type {Round} */ (this.#rounds.get(isProtected));
  }

  /** @param {boolean} isProtected */
  begin(isProtected) {
    this.#rounds.set(isProtected, newRound());
  }

  /**
   * Rows that were not there before came by the round that is at work: nobody else is.
   *
   * @param {PageState} state
   * @param {Round | undefined} round that has sent something which is not settled yet, if one has
   */
  look({ tables }, round) {
    const known = this.#known ?? new Set();
    for (const { table, rows } of tables) {
      for (const row of rows) {
        const name = `${table}/${row.id}`;
        if (known.has(name)) continue;
        known.add(name);
        if (this.#known !== undefined && round !== undefined) round.news.set(table, [...(round.news.get(table) ?? []), row]);
      }
    }
    this.#known = known;
  }
}

/**
 * @param {Round} round
 * @param {readonly TableRows[]} tables as they are now
 * @returns {Seen}
 */
export function seenBy(round, tables) {
  /** @param {readonly TableRows[]} all @param {string} name @returns {readonly Row[]} */
  const rowsOf = (all, name) => all.find(({ table }) => table === name)?.rows ?? [];
  return {
    round,
    // as they are now, since a state may have changed meanwhile
    news: (table) => (round.news.get(table) ?? []).map((row) => rowsOf(tables, table).find(({ id }) => id === row.id) ?? row),
    now: (table) => rowsOf(tables, table),
    before: (table) => rowsOf(round.before, table),
  };
}
