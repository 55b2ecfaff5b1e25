/** Two phases: what is reserved is off the shelf, and is committed or cancelled once. */
import { counted, parse, times, total } from '../words.js';

/** @import { Row, Seen, Story, StoryRequest } from '../types.js' */

/**
 * @param {'commit' | 'cancel'} decision
 * @param {string} title
 * @returns {StoryRequest}
 */
const decide = (decision, title) => ({
  name: decision,
  title,
  keyed: false,
  compose({ memory }) {
    const reference = memory.get('reference');
    if (reference === undefined) return 'Reserve something first: its reference is what this one goes by.';
    return { method: 'POST', path: `/reservations/${reference}/${decision}` };
  },
});

/** @type {Story} */
export const reservations = {
  name: 'reservations',
  title: 'Reservations',
  sentence:
    'To reserve needs a key. To commit or cancel needs none: the reference is the key, and the second click waits for the first one’s answer. ' +
    'What nobody decides expires, and the stock is given back.',
  requests: [
    {
      name: 'reserve',
      title: 'Reserve',
      keyed: true,
      fresh: 'New key',
      choice: {
        label: 'The item',
        options: [
          { value: 'A chair', title: 'a chair' },
          { value: 'A table', title: 'a table' },
          { value: 'A violin', title: 'a violin, of which there is one' },
        ],
      },
      compose: (_round, { choice }) => ({ method: 'POST', path: '/reservations', body: { item: choice, quantity: 1 } }),
      otherBody: (body) => ({ ...body, quantity: 3 }),
      heard(outcome, { memory }) {
        if (outcome.kind === 'answer' && outcome.status === 201) memory.set('reference', String(parse(outcome.body)?.['reference']));
      },
    },
    decide('commit', 'Commit'),
    decide('cancel', 'Cancel'),
  ],
  tally(seen) {
    const reserved = seen.news('reservations').length;
    const off = heldMore(seen) - takenMore(seen);
    const wrong = `${counted(Math.abs(off), 'piece')} too ${off > 0 ? 'many' : 'few'} on the shelf`;
    return {
      headline: reserved === 0 ? 'Not reserved' : `Reserved ${times(reserved)}`,
      detail: off === 0 ? 'What is reserved is off the shelf.' : `${wrong}.`,
      verdict: reserved > seen.round.wants.size || off !== 0 ? 'bad' : reserved === 0 ? 'open' : 'good',
    };
  },
};

/** @param {Seen} seen */
function takenMore({ before, now }) {
  return total(before('stock'), 'available') - total(now('stock'), 'available');
}

/** @param {Seen} seen */
function heldMore({ before, now }) {
  /** @param {readonly Row[]} rows */
  const held = (rows) =>
    total(
      rows.filter(({ state }) => state === 'reserved' || state === 'committed'),
      'quantity',
    );
  return held(now('reservations')) - held(before('reservations'));
}
