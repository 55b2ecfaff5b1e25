/** What the visitor looks at: one story, as one customer, on one side of the switch. It draws nothing. */
import { Visit } from './rounds.js';

/** @import { Customer, Round, Setting, Story, StoryRequest } from './types.js' */

export class Chosen {
  isProtected = true;
  /** By story and customer: whoever comes back finds what they have left. @type {Map<string, Visit>} */
  #visits = new Map();

  /**
   * @param {Story} story
   * @param {Customer} customer
   */
  constructor(story, customer) {
    this.story = story;
    this.customer = customer;
    this.request = firstOf(story);
    this.choice = firstChoiceOf(this.request);
  }

  /** @param {Story} story */
  goTo(story) {
    this.story = story;
    this.select(firstOf(story));
  }

  /** @param {StoryRequest} request */
  select(request) {
    this.request = request;
    this.choice = firstChoiceOf(request);
  }

  /** Whatever exists on one side only is left behind. */
  switchProtection() {
    this.isProtected = !this.isProtected;
    if (this.isProtected) return;
    const option = this.request.choice?.options.find(({ value }) => value === this.choice);
    if (this.request.onlyProtected === true) this.select(firstOf(this.story));
    else if (option?.onlyProtected === true) this.choice = firstChoiceOf(this.request);
  }

  get visit() {
    const name = `${this.story.name}/${this.customer.name}`;
    const known = this.#visits.get(name);
    if (known !== undefined) return known;
    const others = [...this.#visits].filter(([other]) => other.startsWith(`${this.story.name}/`));
    const made = new Visit(others.at(-1)?.[1].round(true).key);
    this.#visits.set(name, made);
    return made;
  }

  /** @returns {Round} */
  get round() {
    return this.visit.round(this.isProtected);
  }

  /** @returns {Setting} */
  get setting() {
    return { customer: this.customer, isProtected: this.isProtected, choice: this.choice };
  }

  forgetVisits() {
    this.#visits.clear();
  }
}

/** A story begins with what both sides have. @param {Story} story */
function firstOf({ requests }) {
  return /** @type {StoryRequest} */ (requests[0]);
}

/** @param {StoryRequest} request */
function firstChoiceOf({ choice }) {
  return choice?.options[0]?.value ?? '';
}
