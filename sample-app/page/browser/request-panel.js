/**
 * The request as it will be sent, and the buttons that send it. What a story's request looks like is
 * the story's to say; the visitor may change its key and its body.
 */
import { byId, button, element, segments } from './elements.js';

/** @import { Composed, Round, Sent, Setting, Story, StoryRequest, WireRequest } from './types.js' */

/**
 * @typedef {object} Panel what is shown at the moment
 * @property {Story} story
 * @property {StoryRequest} request
 * @property {Round} round
 * @property {Setting} setting
 */

/**
 * @typedef {object} Handlers
 * @property {(sent: readonly Sent[], how: { loseAnswer: boolean }) => void} send
 * @property {(request: StoryRequest) => void} select
 * @property {(choice: string) => void} choose
 * @property {() => void} begin a new round
 */

const place = byId('request');

/**
 * Made anew whenever something else is to be sent. Whoever types or tabs through it must not be thrown
 * out by that: the focus stays on the control of the same name.
 *
 * @param {Panel} panel
 * @param {Handlers} handlers
 */
export function showRequest(panel, handlers) {
  const focused =
    document.activeElement instanceof HTMLElement && place.contains(document.activeElement) ? nameOf(document.activeElement) : undefined;
  place.replaceChildren(...parts(panel, handlers));
  if (focused === undefined) return;
  const controls = /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll('button, input, select, textarea'));
  [...controls].find((each) => nameOf(each) === focused)?.focus();
}

/** @param {Element} control */
function nameOf(control) {
  return control.id || `${control.textContent}${control.getAttribute('value') ?? ''}`;
}

/**
 * @param {Panel} panel
 * @param {Handlers} handlers
 */
function* parts(panel, handlers) {
  const { story, request, round, setting } = panel;
  const offered = story.requests.filter(({ onlyProtected }) => setting.isProtected || onlyProtected !== true);
  if (offered.length > 1) yield requestChoice(offered, request, handlers);
  if (request.choice !== undefined) yield choiceOf(request.choice, setting, handlers);

  const composed = request.compose(round, setting);
  if (typeof composed === 'string') {
    yield element('p', { class: 'empty' }, composed);
    return;
  }
  yield lineOf(composed, setting);
  yield headersOf(panel, composed, handlers);
  if (composed.body !== undefined) yield bodyOf(panel, composed.body);
  yield buttonsOf(panel, composed, handlers);
}

/**
 * @param {readonly StoryRequest[]} offered
 * @param {StoryRequest} chosen
 * @param {Handlers} handlers
 */
function requestChoice(offered, chosen, handlers) {
  const fieldset = element('fieldset', { class: 'segments wide', id: 'request-choice' }, element('legend', {}, 'Which one'));
  segments(
    fieldset,
    offered.map(({ name, title }) => [name, title]),
    chosen.name,
    (name) => handlers.select(offered.find((each) => each.name === name) ?? chosen),
  );
  return fieldset;
}

/**
 * @param {NonNullable<StoryRequest['choice']>} choice
 * @param {Setting} setting
 * @param {Handlers} handlers
 */
function choiceOf({ label, options }, setting, handlers) {
  const offered = options.filter(({ onlyProtected }) => setting.isProtected || onlyProtected !== true);
  const select = element(
    'select',
    { id: 'choice' },
    ...offered.map(({ value, title }) => element('option', { value, selected: value === setting.choice }, title)),
  );
  select.addEventListener('change', () => handlers.choose(select.value));
  return element('p', { class: 'field' }, element('label', { for: 'choice' }, label), select);
}

/**
 * @param {Composed} composed
 * @param {Setting} setting
 */
function lineOf({ method, path }, setting) {
  return element('p', { class: 'line' }, element('span', { class: 'method' }, method), element('code', {}, pathOf(path, setting)));
}

/**
 * @param {Panel} panel
 * @param {Composed} composed
 * @param {Handlers} handlers
 */
function headersOf(panel, composed, handlers) {
  const { request, round, setting } = panel;
  const rows = Object.entries(fixedHeaders(request, composed, setting)).map(([name, value]) =>
    element('div', {}, element('dt', {}, name), element('dd', {}, value)),
  );
  const list = element('dl', { class: 'fields' }, ...rows);
  const fresh = request.fresh === undefined ? undefined : button(request.fresh, 'small', handlers.begin);
  if (!request.keyed) return element('div', { class: 'headers' }, list, fresh);
  const key = element('input', { id: 'key', type: 'text', value: round.key, spellcheck: 'false', autocomplete: 'off', maxlength: 255 });
  key.addEventListener('input', () => (round.key = key.value));
  const keyed = element('div', { class: 'key' }, element('label', { for: 'key' }, 'Idempotency-Key'), key, fresh);
  return element('div', { class: 'headers' }, list, keyed);
}

/**
 * @param {Panel} panel
 * @param {object | string} body
 */
function bodyOf({ request, round }, body) {
  const composed = typeof body === 'string' ? body : JSON.stringify(body, null, 2);
  const draft = round.drafts.get(request.name);
  const text = draft?.composed === composed ? draft.text : composed;
  const area = element('textarea', { id: 'body', rows: Math.min(8, text.split('\n').length), spellcheck: 'false', autocomplete: 'off' });
  area.value = text;
  area.addEventListener('input', () => round.drafts.set(request.name, { composed, text: area.value }));
  return element('p', { class: 'field stacked' }, element('label', { for: 'body' }, 'Body'), area);
}

/**
 * @param {Panel} panel
 * @param {Composed} composed
 * @param {Handlers} handlers
 */
function buttonsOf(panel, composed, handlers) {
  const { request, round, setting } = panel;
  const as = request.anonymous === true ? '' : ` as ${setting.customer.name}`;
  /** @param {string} label */
  const once = (label) => ({ label, as, request, wire: wireOf(panel, composed) });
  const made = element('div', { class: 'buttons' });
  made.append(
    button('Send', 'primary', () => handlers.send([once('Sent')], { loseAnswer: false })),
    button('Send twice at once', '', () => handlers.send([once('First of two'), once('Second of two')], { loseAnswer: false })),
    button('Lose the answer', '', () => handlers.send([once('Sent')], { loseAnswer: true })),
  );
  const { otherBody } = request;
  if (otherBody !== undefined) {
    const label = request.keyed ? 'Send another body, same key' : 'Send another body';
    made.append(button(label, '', () => handlers.send([withOtherBody(once('Another body'), otherBody)], { loseAnswer: false })));
  }
  const retry = button('Retry', '', () => {
    if (round.last !== undefined) handlers.send([{ ...round.last, label: 'Retried' }], { loseAnswer: false });
  });
  retry.disabled = round.last === undefined;
  made.append(retry);
  return made;
}

/**
 * @param {Panel} panel
 * @param {Composed} composed
 * @returns {WireRequest}
 */
function wireOf({ request, round, setting }, composed) {
  const area = document.querySelector('#body');
  return {
    method: composed.method,
    path: pathOf(composed.path, setting),
    headers: {
      ...fixedHeaders(request, composed, setting),
      ...(request.keyed && round.key !== '' ? { 'Idempotency-Key': round.key } : {}),
    },
    body: area instanceof HTMLTextAreaElement ? area.value : undefined,
  };
}

/**
 * @param {Sent} sent
 * @param {NonNullable<StoryRequest['otherBody']>} otherBody
 * @returns {Sent}
 */
function withOtherBody(sent, otherBody) {
  return { ...sent, wire: { ...sent.wire, body: JSON.stringify(otherBody(JSON.parse(sent.wire.body ?? '{}')), null, 2) } };
}

/**
 * @param {StoryRequest} request
 * @param {Composed} composed
 * @param {Setting} setting
 * @returns {Record<string, string>}
 */
function fixedHeaders({ anonymous }, { headers = {}, body }, { customer }) {
  return {
    ...(anonymous === true ? {} : { Authorization: `Bearer ${customer.token}` }),
    ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...headers,
  };
}

/**
 * @param {string} path
 * @param {Setting} setting
 */
function pathOf(path, { isProtected }) {
  return isProtected ? path : `/unprotected${path}`;
}
