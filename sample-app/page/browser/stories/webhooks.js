/** What the provider tells of a payment counts once, however often and in whatever order it comes. */
import { isTo, times } from '../words.js';
import { payFor } from './payments.js';

/** @import { Story, StoryRequest } from '../types.js' */

/** So that the provider tells of this round's payment and no other. @param {string} id */
const described = (id) => `A clock ${id.slice(0, 4)}`;

/**
 * @param {string} name
 * @param {string} title
 * @returns {StoryRequest}
 */
const tell = (name, title) => ({
  name,
  title,
  keyed: false,
  compose: ({ id }) => ({ method: 'POST', path: `/provider/${name}`, body: { description: described(id) } }),
});

/** @type {Story} */
export const webhooks = {
  name: 'webhooks',
  title: 'Webhooks',
  sentence:
    'The provider signs its events, delivers each of them twice, and in any order. An event’s id is its key, and only a success is kept: one that ' +
    'comes before its payment is refused, and accepted when it comes again.',
  requests: [payFor('Pay first', described), tell('payouts', 'Pay out, told twice'), tell('refunds', 'Refund, told first')],
  tally({ news }) {
    const payments = news('payments');
    const payouts = news('ledger_entries').filter(isTo('debit', 'bank')).length;
    const refunds = news('ledger_entries').filter(isTo('debit', 'sales')).length;
    const tooMany = payouts > payments.length || refunds > payments.length;
    const forgotten = refunds > 0 && !payments.some(isTo('state', 'refunded'));
    const states = payments.map(({ state }) => state).join(', ');
    return {
      headline: payouts + refunds === 0 ? 'Nothing entered' : `Payout entered ${times(payouts)}`,
      detail:
        payments.length === 0 ? 'There is no payment yet.' : `The payment is ${states}${forgotten ? ', though it was refunded' : ''}.`,
      verdict: tooMany || forgotten ? 'bad' : payouts + refunds === 0 ? 'open' : 'good',
    };
  },
};
