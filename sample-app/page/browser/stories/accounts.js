/** Money moves once. */
import { money, times, total } from '../words.js';

/** @import { Seen, Setting, Story } from '../types.js' */

/** @param {Setting} setting */
const current = ({ customer }) => `${customer.name.toLowerCase()}-current`;

/** @type {Story} */
export const accounts = {
  name: 'accounts',
  title: 'Accounts',
  sentence:
    'A transfer carries an id that the client has made up. It is entered under that id before any money moves, and there can be only one; ' +
    'balances are changed by compare-and-set, never computed from what they were a moment ago.',
  withoutRecords: 'None: that the transaction id is unique decides here.',
  requests: [
    {
      name: 'transfer',
      title: 'Transfer',
      keyed: false,
      fresh: 'New transaction id',
      naturalKey: ({ id }) => id,
      compose({ id }, setting) {
        const from = current(setting);
        const to = from === 'alice-current' ? 'alice-savings' : 'alice-current';
        return { method: 'POST', path: '/transfers', body: { transactionId: id, from, to, amount: 2500 } };
      },
      otherBody: (body) => ({ ...body, amount: 9900 }),
    },
  ],
  tally(seen) {
    const moved = seen.news('transfers');
    const [entered, missing] = [total(moved, 'amount'), missingFrom(seen)];
    const agrees = entered === missing;
    return {
      headline: moved.length === 0 ? 'Nothing moved' : `Moved ${times(moved.length)}`,
      detail: `${money(entered)} by the transfers, ${money(missing)} by the balance${agrees ? '' : ': that is not the same'}.`,
      verdict: moved.length > seen.round.wants.size || !agrees ? 'bad' : moved.length === 0 ? 'open' : 'good',
    };
  },
};

/** @param {Seen} seen @returns what has left the account since the round began */
function missingFrom({ before, now }) {
  const [then, today] = [before('accounts'), now('accounts')].map((rows) => rows.find(({ id }) => id.endsWith('-current')));
  return Number(then?.['balance'] ?? 0) - Number(today?.['balance'] ?? 0);
}
