/** Two tabs edit one profile, and neither overwrites what the other has written. */
import { counted, parse } from '../words.js';

/** @import { Outcome, Row, Round, Setting, Story, StoryRequest } from '../types.js' */

/**
 * @typedef {object} Tab what an editor holds: what it has read last, and of which version that was
 * @property {string} name
 * @property {string} address
 * @property {string | null} etag
 */

/**
 * One tab changes the name and the other the address, and each sends back the rest as it has read it.
 *
 * @type {Record<'A' | 'B', (tab: Tab, setting: Setting) => { name: string, address: string }>}
 */
const EDITS = {
  A: ({ name, address }, { customer }) => ({
    name: name === `${customer.name} Archer` ? `${customer.name} Baker` : `${customer.name} Archer`,
    address,
  }),
  B: ({ name, address }) => ({ name, address: `${1 + Number.parseInt(address || '0', 10)} Mill Lane` }),
};

/**
 * @param {Round} round
 * @param {'A' | 'B'} tab
 * @returns {Tab | undefined}
 */
function heldBy({ memory }, tab) {
  const held = memory.get(`tab ${tab}`);
  return held === undefined ? undefined : JSON.parse(held);
}

/**
 * @param {Outcome} outcome
 * @param {Round} round
 * @param {'A' | 'B'} tab
 * @returns {boolean} whether there was a profile in it
 */
function keep(outcome, { memory }, tab) {
  if (outcome.kind !== 'answer' || outcome.status !== 200) return false;
  memory.set(`tab ${tab}`, JSON.stringify({ ...parse(outcome.body), etag: outcome.headers.get('etag') }));
  return true;
}

/**
 * @param {'A' | 'B'} tab
 * @returns {StoryRequest[]}
 */
const requestsOf = (tab) => [
  {
    name: `open-${tab}`,
    title: `Tab ${tab}: open`,
    keyed: false,
    compose(round, { isProtected }) {
      const etag = isProtected ? heldBy(round, tab)?.etag : undefined;
      return { method: 'GET', path: '/profile', ...(etag ? { headers: { 'If-None-Match': etag } } : {}) };
    },
    heard: (outcome, round) => void keep(outcome, round, tab),
  },
  {
    name: `save-${tab}`,
    title: `Tab ${tab}: save`,
    keyed: false,
    compose(round, setting) {
      const held = heldBy(round, tab);
      if (held === undefined) return `Open the profile in tab ${tab} first: what is not read can't be edited.`;
      const { etag } = held;
      return {
        method: 'PUT',
        path: '/profile',
        ...(setting.isProtected && etag ? { headers: { 'If-Match': etag } } : {}),
        body: EDITS[tab](held, setting),
      };
    },
    heard(outcome, round) {
      if (!keep(outcome, round, tab)) return;
      const field = tab === 'A' ? 'name' : 'address';
      round.memory.set(`saved ${field}`, String(heldBy(round, tab)?.[field]));
    },
  },
];

/** @type {Story} */
export const profile = {
  name: 'profile',
  title: 'Profile',
  sentence:
    'Two requests that are both new must be told from each other here, so a key is no help: the version in If-Match is. Open the profile in ' +
    'both tabs, save in one and then in the other.',
  withoutRecords: 'None: the version of the profile decides here.',
  requests: [...requestsOf('A'), ...requestsOf('B')],
  tally({ round, now }) {
    const row = /** @type {Row | undefined} */ (now('profiles')[0]);
    const saved = ['name', 'address'].filter((field) => round.memory.has(`saved ${field}`));
    const lost = saved.filter((field) => row?.[field] !== round.memory.get(`saved ${field}`));
    return {
      headline: lost.length > 0 ? `${counted(lost.length, 'edit')} lost` : saved.length === 0 ? 'Nothing saved' : 'No edit lost',
      detail: lost.length > 0 ? `The ${lost.join(' and ')} that was saved is gone, and nobody was told.` : 'What was saved is there.',
      verdict: lost.length > 0 ? 'bad' : saved.length === 0 ? 'open' : 'good',
    };
  },
};
