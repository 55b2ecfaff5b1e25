/** A form without a key: two clicks are one message. */
import { times } from '../words.js';
import { isWaitingForMail } from './mail.js';

/** @import { Row, Story } from '../types.js' */

/** As the shop has it. */
const WINDOW_MS = 10_000;

/** @type {Story} */
export const contact = {
  name: 'contact',
  title: 'Contact form',
  sentence:
    'A form in a page sends no key, and nobody is logged in. The same words from the same address within ten seconds are taken for one message, ' +
    'and the second click gets the first one’s thanks.',
  requests: [
    {
      name: 'send',
      title: 'Send a message',
      keyed: false,
      anonymous: true,
      fresh: 'New message',
      compose: ({ id }, { customer }) => ({
        method: 'POST',
        path: '/contact',
        body: { email: customer.email, message: `Is lamp ${id.slice(0, 4)} still there?` },
      }),
    },
  ],
  isUnsettled: isWaitingForMail,
  tally({ news }) {
    const messages = news('contact_messages');
    const mails = news('received_mails').length;
    return {
      headline: messages.length === 0 ? 'Nothing received' : `Received ${times(messages.length)}`,
      detail: `The shop’s mailbox has got it ${times(mails)}.`,
      verdict: messages.some(comesTooSoon) || mails > messages.length ? 'bad' : messages.length === 0 ? 'open' : 'good',
    };
  },
};

/**
 * @param {Row} message
 * @param {number} index
 * @param {readonly Row[]} all of a round, which says the same in each
 */
function comesTooSoon({ at }, index, all) {
  const time = Date.parse(String(at));
  return all.some((other, place) => place < index && Math.abs(time - Date.parse(String(other['at']))) < WINDOW_MS);
}
