/** Elements in one expression. Text stays text, so that nothing a server says becomes markup. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes] `false` and `undefined` leave one out
 * @param {...(Node | string | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

/**
 * @param {string} text
 * @param {string} look
 * @param {() => void} pressed
 */
export function button(text, look, pressed) {
  const made = element('button', { type: 'button', class: look }, text);
  made.addEventListener('click', pressed);
  return made;
}

/**
 * Of several, one: radio buttons that look like one piece.
 *
 * @param {HTMLFieldSetElement} fieldset with its legend in it
 * @param {readonly (readonly [value: string, title: string])[]} options
 * @param {string} chosen
 * @param {(value: string) => void} choose
 */
export function segments(fieldset, options, chosen, choose) {
  const name = fieldset.id;
  const labels = options.map(([value, title]) => {
    const radio = element('input', { type: 'radio', name, value, checked: value === chosen });
    radio.addEventListener('change', () => choose(value));
    return element('label', {}, radio, element('span', {}, title));
  });
  fieldset.replaceChildren(...fieldset.querySelectorAll('legend'), ...labels);
}

/**
 * @param {string} id of an element that index.html has
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no element #${id}.`);
  return found;
}
