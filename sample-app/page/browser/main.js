/** Puts the page together: what the visitor has chosen, what they send, and the look into the database beside it. */
import { addAnswer, clearAnswers } from './answer-list.js';
import { Chosen } from './chosen.js';
import { DatabasePanel } from './database-panel.js';
import { byId, element, segments } from './elements.js';
import { showRequest } from './request-panel.js';
import { seenBy } from './rounds.js';
import { followScheme } from './scheme.js';
import * as shop from './shop.js';
import { stories } from './stories.js';
import { showTallies } from './tallies.js';
import { Watch } from './watch.js';

/** @import { Customer, PageState, Round, Sent, Story } from './types.js' */
/** @import { Visit } from './rounds.js' */

/** @typedef {{ readonly round: Round, readonly visit: Visit }} Act something was sent, and is not settled yet */

const customers = await shop.customers();
const chosen = new Chosen(storyInAddress(), /** @type {Customer} */ (customers[0]));
const panel = new DatabasePanel();
const watch = new Watch(look);

/** @type {Act[]} */
const acts = [];
/** @type {PageState | undefined} of the story and customer that are chosen */
let state;

function storyInAddress() {
  return stories.find(({ name }) => `#${name}` === location.hash) ?? /** @type {Story} */ (stories[0]);
}

// What the visitor does:

/**
 * @param {readonly Sent[]} sent all at once
 * @param {{ loseAnswer: boolean }} how
 */
async function send(sent, how) {
  const { round, visit, story } = chosen;
  const act = { round, visit };
  setUnderWay(() => acts.push(act));
  try {
    if (round.sent === 0) {
      await watch.look();
      round.before = state?.tables ?? [];
    }
    panel.mark(state);
    round.last = sent.at(-1);
    drawRequest(); // it can be retried from now on, whether or not an answer comes
    await Promise.all(sent.map((each) => sendOne(each, how, act)));
    await watch.look();
    await watch.lookWhile(() => chosen.visit === visit && state !== undefined && story.isUnsettled?.(state) === true);
  } finally {
    setUnderWay(() => acts.splice(acts.indexOf(act), 1));
  }
  drawRequest();
}

/**
 * @param {Sent} sent
 * @param {{ loseAnswer: boolean }} how
 * @param {Act} act
 */
async function sendOne(sent, how, { round, visit }) {
  const key = sent.wire.headers['Idempotency-Key'];
  round.sent += 1;
  if (key !== undefined) visit.keys.add(key);
  // A keyed request without its key is one of its own, each time.
  const want = sent.request.keyed ? (key ?? `request ${round.sent}`) : sent.request.naturalKey?.(round);
  if (want !== undefined) round.wants.add(want);
  const outcome = await shop.send(sent.wire, how);
  sent.request.heard?.(outcome, round);
  addAnswer(sent, outcome);
}

/** @param {() => void} change of what is under way */
function setUnderWay(change) {
  change();
  byId('database').setAttribute('aria-busy', String(acts.length > 0));
}

async function startAfresh() {
  await shop.startAfresh(chosen.customer);
  chosen.forgetVisits();
  clearAnswers();
  change();
}

// The look into the database:

/** @returns {Promise<() => void>} */
async function look() {
  const { story, customer, visit } = chosen;
  try {
    const seen = await shop.state(story.name, customer, [...visit.keys].slice(-20));
    return () => {
      byId('unreachable').hidden = true;
      if (chosen.visit === visit) show(seen);
    };
  } catch (error) {
    return () => {
      byId('unreachable').textContent = `The shop can’t be reached; this page goes on trying. (${String(error)})`;
      byId('unreachable').hidden = false;
    };
  }
}

/** @param {PageState} seen */
function show(seen) {
  const { story, visit, round, isProtected } = chosen;
  const act = acts.findLast((each) => each.visit === visit);
  state = seen;
  visit.look(seen, act?.round);
  for (const each of new Set([round, act?.round]))
    if (each !== undefined && each.sent > 0) each.tally = story.tally(seenBy(each, seen.tables));
  panel.show(
    seen,
    isProtected ? (story.withoutRecords ?? 'None yet. The first request makes one.') : 'None. Without protection nobody makes any.',
  );
  showTallies(visit.round(true), visit.round(false), isProtected);
}

// How it is drawn:

function drawRequest() {
  const { story, request, round, setting } = chosen;
  showRequest(
    { story, request, round, setting },
    {
      send: (sent, how) => void send(sent, how),
      select: (selected) => {
        chosen.select(selected);
        drawRequest();
      },
      choose: (choice) => {
        chosen.choice = choice;
        drawRequest();
      },
      begin: () => {
        chosen.visit.begin(chosen.isProtected);
        drawRequest();
        void watch.look();
      },
    },
  );
}

function drawStory() {
  const { name, title, sentence } = chosen.story;
  byId('title').textContent = title;
  byId('sentence').textContent = sentence;
  document.title = `${title} · A shop that charges once`;
  for (const link of byId('stories').querySelectorAll('a')) {
    if (link.hash === `#${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

/** Something else is looked at: nothing of it has been seen yet. */
function change() {
  state = undefined;
  panel.mark(undefined);
  drawRequest();
  void watch.keepLooking();
}

byId('stories').replaceChildren(...stories.map(({ name, title }) => element('li', {}, element('a', { href: `#${name}` }, title))));
window.addEventListener('hashchange', () => {
  if (storyInAddress() === chosen.story) return;
  chosen.goTo(storyInAddress());
  clearAnswers();
  drawStory();
  change();
});

segments(
  /** @type {HTMLFieldSetElement} */ (byId('customers')),
  customers.map(({ name }) => [name, name]),
  chosen.customer.name,
  (name) => {
    chosen.customer = customers.find((each) => each.name === name) ?? chosen.customer;
    change();
  },
);

byId('protection').addEventListener('click', () => {
  chosen.switchProtection();
  byId('protection').setAttribute('aria-checked', String(chosen.isProtected));
  document.body.classList.toggle('unprotected', !chosen.isProtected);
  byId('unprotected').hidden = chosen.isProtected;
  change();
});

byId('afresh').addEventListener('click', () => void startAfresh());
followScheme();
drawStory();
change();
