/** What came of it, side by side: with protection, and without. */
import { byId, element } from './elements.js';
import { counted } from './words.js';

/** @import { Round } from './types.js' */

const place = byId('tallies');

/**
 * @param {Round} on the round with protection
 * @param {Round} off the one without
 * @param {boolean} isProtected which of them is on
 */
export function showTallies(on, off, isProtected) {
  const tiles = [tile('With protection', on, isProtected), tile('Without', off, !isProtected)];
  const texts = tiles.map(({ outerHTML }) => outerHTML).join('');
  if (place.dataset['texts'] === texts) return; // said once is enough, also to a screen reader
  place.dataset['texts'] = texts;
  place.replaceChildren(...tiles);
}

/**
 * @param {string} title
 * @param {Round} round
 * @param {boolean} isOn
 */
function tile(title, { tally, sent }, isOn) {
  const verdict = sent === 0 || tally === undefined ? 'open' : tally.verdict;
  return element(
    'div',
    { class: `tally ${verdict} ${isOn ? 'on' : ''}`.trim() },
    element('p', { class: 'tally-title' }, title),
    element('p', { class: 'tally-headline' }, sent === 0 || tally === undefined ? 'Not tried yet' : tally.headline),
    element(
      'p',
      { class: 'tally-detail' },
      sent === 0 || tally === undefined ? 'Switch and send to compare.' : `${counted(sent, 'request')}. ${tally.detail}`,
    ),
  );
}
