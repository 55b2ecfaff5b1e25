/** A confirmation is sent once, and only for an order that is paid. */
import { counted, times } from '../words.js';
import { payFor } from './payments.js';

/** @import { PageState, Story } from '../types.js' */

/** @param {PageState} state */
export function isWaitingForMail({ tables }) {
  return tables.some(({ table, rows }) => table === 'pending_mails' && rows.length > 0);
}

/** @type {Story} */
export const mail = {
  name: 'mail',
  title: 'Mail',
  sentence:
    'A mail can’t be taken back, so it is not sent from within the transaction: a note of it is committed with the order, and seen to ' +
    'afterwards, once, by run() with the order’s id as the key.',
  requests: [payFor('Pay, and wait for the mail', () => 'A clock')],
  isUnsettled: isWaitingForMail,
  tally({ round, news }) {
    const [mails, paid] = [news('received_mails').length, news('payments').length];
    return {
      headline: mails === 0 ? 'No mail' : `Mailed ${times(mails)}`,
      detail: `${counted(paid, 'order')} ${paid === 1 ? 'is' : 'are'} paid.`,
      verdict: mails > paid || mails > round.wants.size ? 'bad' : mails === 0 ? 'open' : 'good',
    };
  },
};
