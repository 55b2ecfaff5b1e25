/** A card is charged once. */
import { isTo, times } from '../words.js';

/** @import { Story, StoryRequest } from '../types.js' */

/**
 * @param {string} title
 * @param {(id: string) => string} describe what is bought
 * @returns {StoryRequest}
 */
export function payFor(title, describe) {
  return {
    name: 'pay',
    title,
    keyed: true,
    fresh: 'New key',
    choice: {
      label: 'The card',
      options: [
        { value: 'tok_visa', title: 'works' },
        { value: 'tok_declined', title: 'is declined' },
        { value: 'tok_slow', title: 'takes ten seconds' },
        // by the key that the provider gets, so it would never come up again for a shop that makes a new one each time
        { value: 'tok_down_once', title: 'the provider is down for the first try', onlyProtected: true },
      ],
    },
    compose: ({ id }, { choice }) => ({
      method: 'POST',
      path: '/payments',
      body: { amount: 4200, card: choice, description: describe(id) },
    }),
    otherBody: (body) => ({ ...body, amount: 9900 }),
  };
}

/** @type {Story} */
export const payments = {
  name: 'payments',
  title: 'Payments',
  sentence:
    'The order, its payment, the ledger entry and the answer are committed together, or none of them is. The charge is a step: ' +
    'it is asked for under a key of its own, and remembered.',
  requests: [payFor('Pay', () => 'A lamp')],
  tally({ round, news }) {
    const charges = news('provider_charges').filter(isTo('outcome', 'charged')).length;
    const paid = news('payments').length;
    return {
      headline: charges === 0 ? 'Not charged' : `Charged ${times(charges)}`,
      detail: paid === 1 ? 'The shop has one payment of it.' : `The shop has ${paid} payments of it.`,
      verdict: charges > round.wants.size || paid > round.wants.size ? 'bad' : charges === 0 ? 'open' : 'good',
    };
  },
};
