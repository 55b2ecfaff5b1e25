/** What came back, the newest first: status, the headers that matter, the body, and what to make of it. */
import { byId, element } from './elements.js';
import { codeOf, counted, labelOf, parse, shortened, spaced } from './words.js';

/** @import { Outcome, Sent } from './types.js' */

const SHOWN_HEADERS = ['Idempotent-Replayed', 'Retry-After', 'ETag', 'Preference-Applied', 'Location'];

/** More than these nobody scrolls to. */
const MOST_ANSWERS = 30;

const list = byId('answers');
const empty = byId('no-answers');

/** Bodies that have come, by the key and body that they answer. @type {Map<string, string>} */
const firstBodies = new Map();

/**
 * @param {Sent} sent
 * @param {Outcome} outcome
 */
export function addAnswer(sent, outcome) {
  const { tone, text } = labelOf(outcome);
  const chips = [element('span', { class: `chip ${tone}` }, text), ...remarks(sent, outcome)];
  for (const older of list.querySelectorAll('details')) older.open = false;
  list.prepend(
    element(
      'li',
      { class: `answer ${tone}` },
      element('div', { class: 'answer-head' }, statusOf(outcome), ...chips, element('span', { class: 'ms' }, `${outcome.ms} ms`)),
      element('p', { class: 'answer-to' }, `${sent.label}${sent.as}: ${sent.wire.method} ${sent.wire.path}${keyPart(sent)}`),
      ...(outcome.kind === 'answer' ? detailsOf(outcome) : [lostText()]),
    ),
  );
  while (list.children.length > MOST_ANSWERS) list.lastElementChild?.remove();
  empty.hidden = true;
}

export function clearAnswers() {
  list.replaceChildren();
  firstBodies.clear();
  empty.hidden = false;
}

/** @param {Outcome} outcome */
function statusOf(outcome) {
  return element('strong', { class: 'status' }, outcome.kind === 'lost' ? 'No answer' : `${outcome.status} ${outcome.reason}`.trim());
}

/** @param {Sent} sent */
function keyPart({ wire }) {
  const key = wire.headers['Idempotency-Key'];
  return key === undefined ? '' : `, key ${shortened(key)}`;
}

/**
 * A refusal's code; and of a replay, whether its bytes are those of the first answer, where that was not lost.
 *
 * @param {Sent} sent
 * @param {Outcome} outcome
 */
function remarks({ wire }, outcome) {
  if (outcome.kind === 'lost') return [];
  const made = [];
  const code = outcome.status >= 400 ? codeOf(outcome.body) : undefined;
  if (code !== undefined) made.push(element('code', { class: 'code' }, code));
  const asked = JSON.stringify([wire.headers['Authorization'], wire.headers['Idempotency-Key'], wire.method, wire.path, wire.body]);
  const replayed = outcome.headers.get('idempotent-replayed') === 'true';
  if (replayed && firstBodies.get(asked) === outcome.body) {
    made.push(element('span', { class: 'remark' }, `the same ${new Blob([outcome.body]).size} bytes`));
  }
  if (outcome.status < 500 && code === undefined && !firstBodies.has(asked)) firstBodies.set(asked, outcome.body);
  return made;
}

/** @param {Extract<Outcome, { kind: 'answer' }>} outcome */
function* detailsOf({ headers, body }) {
  // A weak ETag is the web framework's own, and says nothing of a version.
  const shown = SHOWN_HEADERS.filter((name) => headers.has(name) && !headers.get(name)?.startsWith('W/'));
  if (shown.length > 0) {
    yield element(
      'dl',
      { class: 'fields' },
      ...shown.map((name) => element('div', {}, element('dt', {}, name), element('dd', {}, headers.get(name) ?? ''))),
    );
  }
  const said = parse(body)?.['detail'] ?? parse(body)?.['message'];
  if (typeof said === 'string') yield element('p', { class: 'said' }, said);
  if (body === '') return;
  const size = `Body, ${counted(new Blob([body]).size, 'byte')}`;
  yield element(
    'details',
    { open: true },
    element('summary', {}, size),
    element('pre', { class: 'body' }, element('code', {}, spaced(body))),
  );
}

function lostText() {
  return element('p', { class: 'remark' }, 'The connection closed before an answer came. Was it done or not? The client can’t know.');
}
