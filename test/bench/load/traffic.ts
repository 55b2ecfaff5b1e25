/** What clients ask, and what is right about an answer to it. */
import { randomUUID } from 'node:crypto';
import type { Route } from '../app-protocol.js';
import type { Contestant } from '../contestants.js';
import type { Answer } from './answer-reader.js';
import type { Traffic } from './connections.js';
import { difference, kept } from './ledger.js';
import type { KeptAnswer, Ledger } from './ledger.js';
import { get, post } from './request-template.js';

type Manners = Pick<Contestant, 'guards' | 'tellsReplays'>;

/** Every request has a key that nobody has used. At most `count` of them. */
export function firsts(route: Route, ledger: Ledger, count = Infinity): Traffic {
  let left = count;
  return {
    request: post(route, { keyed: true }),
    next: () => (left-- > 0 ? randomUUID() : undefined),
    check: (key, answer) => notePlaced(ledger, key, answer),
  };
}

/** New keys, whose first answers are kept. */
export function recorded(route: Route, ledger: Ledger, answers: Map<string, KeptAnswer>, count: number): Traffic {
  const made = firsts(route, ledger, count);
  return {
    ...made,
    check(key, answer) {
      answers.set(key, kept(answer));
      return made.check(key, answer);
    },
  };
}

/** The same keys again and again, in their order. A contestant that guards nothing does its work again. */
export function replays(route: Route, answers: ReadonlyMap<string, KeptAnswer>, manners: Manners, ledger: Ledger): Traffic {
  const keys = [...answers.keys()];
  let turn = 0;
  return {
    request: post(route, { keyed: true }),
    next: () => keys[turn++ % keys.length],
    check(key, answer) {
      if (!manners.guards) return notePlaced(ledger, key, answer);
      const first = answers.get(key);
      return first === undefined ? 'an answer to a key that was not asked' : checkReplay(first, answer, manners);
    },
  };
}

/** Each key once. */
export function replaysOnce(route: Route, answers: ReadonlyMap<string, KeptAnswer>, manners: Manners, ledger: Ledger): Traffic {
  const again = replays(route, answers, manners, ledger);
  let left = answers.size;
  return { ...again, next: () => (left-- > 0 ? again.next() : undefined) };
}

/** Records that were loaded, not made by requests: the nth key and the answer to it can be told from n. */
export interface LoadedAnswers {
  key(n: number): string;
  answer(key: string): KeptAnswer;
}

/** All of the loaded keys in an order that is no order on the disk; from the start again after `count` of them. */
export function loadedReplays(route: Route, { key, answer }: LoadedAnswers, count: number, manners: Manners, ledger: Ledger): Traffic {
  const stride = strideThrough(count);
  let n = 0;
  return {
    request: post(route, { keyed: true }),
    next: () => key((n = (n + stride) % count)),
    check: (asked, given) => (manners.guards ? checkReplay(answer(asked), given, manners) : notePlaced(ledger, asked, given)),
  };
}

/** A step that meets every number below `count` once before it meets one again, and is never near where it was. */
export function strideThrough(count: number): number {
  let stride = Math.max(1, Math.floor(count * 0.618));
  while (commonDivisor(stride, count) !== 1) stride += 1;
  return stride;
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** How far back a retry reaches. */
const RECENT_KEYS = 1000;
/** Coprime to it, so that all of them get their turn. */
const STRIDE = 619;

/** Of ten requests nine repeat one of the last thousand keys, the tenth is new. */
export function mixed(route: Route, manners: Manners, ledger: Ledger): Traffic {
  const answers = new Map<string, KeptAnswer>();
  const keys: string[] = [];
  let turn = 0;
  return {
    request: post(route, { keyed: true }),
    next() {
      turn += 1;
      const back = 1 + ((turn * STRIDE) % Math.min(RECENT_KEYS, Math.max(1, keys.length)));
      return turn % 10 === 0 ? randomUUID() : (keys[keys.length - back] ?? randomUUID());
    },
    check(key, answer) {
      const first = answers.get(key);
      if (first !== undefined && manners.guards) return checkReplay(first, answer, manners);
      if (first === undefined) {
        keys.push(key);
        answers.set(key, kept(answer));
      }
      return notePlaced(ledger, key, answer);
    },
  };
}

/** A route that places no order. */
export function plain(route: Route): Traffic {
  const isRead = route === '/quiet';
  const status = isRead ? 200 : 201;
  return {
    request: isRead ? get(route) : post(route, { keyed: false }),
    next: () => '',
    check: (_key, answer) => checkStatus(answer, status),
  };
}

function notePlaced(ledger: Ledger, key: string, answer: Answer): string | undefined {
  const fault = checkStatus(answer, 201) ?? (answer.replayed ? 'the answer to a new key says that it is a replay' : undefined);
  if (fault === undefined) ledger.note(key, answer);
  return fault;
}

function checkReplay(first: KeptAnswer, answer: Answer, { tellsReplays = false }: Manners): string | undefined {
  return (
    difference(first, answer) ?? (tellsReplays && !answer.replayed ? 'an answer to a used key does not say that it is a replay' : undefined)
  );
}

function checkStatus({ status, body }: Answer, expected: number): string | undefined {
  return status === expected ? undefined : `status ${status} instead of ${expected}: ${body.toString('utf8', 0, 200)}`;
}
