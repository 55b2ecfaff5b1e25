/** What must be true of answers and effects, and how it is said when it is not: expected, got, and what to do. */
import { AssertionError } from 'node:assert';
import type { Answer, Outcome } from './sender.js';
import type { Trial } from './trial.js';

/** How many effects there are: one number, or one for each kind. */
export type Effects = number | Readonly<Record<string, number>>;

const REPLAYED = 'idempotent-replayed';

const ONE_EFFECT =
  'Make the effect part of what is recorded: rows through execution.manager in atomic mode, or execution.transaction(); ' +
  'a call to another system as an execution.step(), under the key that the step is given.';

export class Findings {
  /** Named in every failure. */
  scenario = '';
  #before: ReadonlyMap<string, number> = new Map();

  constructor(
    private readonly effects: () => Effects | Promise<Effects>,
    private readonly perKey: Effects,
    private readonly keptHeaders: ReadonlySet<string>,
  ) {}

  async begin(scenario: string): Promise<void> {
    this.scenario = scenario;
    this.#before = await this.#count();
  }

  /** @param keys how many keys' work was done since the scenario began */
  async hadEffect(keys: 0 | 1): Promise<void> {
    for (const [name, grown, expected] of await this.#growth(keys)) {
      if (grown === expected) continue;
      const remedy =
        grown > expected ? ONE_EFFECT : 'See to it that effects() counts what this request does, and that perKey says how much of it.';
      this.#fail(`${name} to grow by ${expected}`, `${grown}`, remedy, grown, expected);
    }
  }

  async hadEffectAtMost(keys: 1): Promise<void> {
    for (const [name, grown, expected] of await this.#growth(keys)) {
      if (grown > expected) this.#fail(`${name} to grow by ${expected} at most`, `${grown}`, ONE_EFFECT, grown, expected);
    }
  }

  isProtected({ claim }: Trial, answer: Answer): void {
    if (claim !== undefined) return;
    const remedy =
      'Put @Idempotent() on the handler, and give a request that reaches it: with its credentials, and with a body that is valid.';
    this.#fail('the request to claim a key', `none claimed, and the answer ${shown(answer)}`, remedy);
  }

  isFirst(answer: Answer): void {
    if (answer.headers[REPLAYED] === undefined) return;
    this.#fail(
      'a first answer',
      'a replay',
      'Its key has been used before: leave it out, or give a function that makes a new request each time.',
    );
  }

  isReplay(answer: Answer, first: Answer): void {
    this.#isReplayed(answer, first);
    if (answer.status !== first.status) {
      this.#fail(`status ${first.status}, as in the first answer`, shown(answer), SAME_ANSWER, answer.status, first.status);
    }
    if (!answer.body.equals(first.body)) {
      this.#fail(`the body ${excerpt(first)} of the first answer`, excerpt(answer), SAME_ANSWER, excerpt(answer), excerpt(first));
    }
    for (const name of this.keptHeaders) {
      const [got, expected] = [answer.headers[name], first.headers[name]];
      if (String(got) === String(expected)) continue;
      this.#fail(`the header ${name}: ${String(expected)} of the first answer`, `${String(got)}`, SAME_ANSWER, got, expected);
    }
  }

  #isReplayed(answer: Answer, first: Answer): void {
    if (answer.headers[REPLAYED] === 'true') return;
    const remedy =
      first.status >= 400
        ? `The first answer was ${first.status}: give a request that succeeds, or storeIf to keep such answers.`
        : 'The first answer was not kept: look at storeIf and maxBodyBytes.';
    this.#fail('the first answer once more, with Idempotent-Replayed: true', shown(answer), remedy);
  }

  isRefused(answer: Answer): void {
    if (answer.status === 422) return;
    const remedy =
      'Give otherBody, a body that differs in what the fingerprint of this route is made of and that passes its guards; or false to leave this scenario out.';
    this.#fail('status 422', shown(answer), remedy, answer.status, 422);
  }

  hasStatus(answer: Outcome, status: number): void {
    if (answer?.status === status) return;
    const remedy = 'A retry must be able to do what the first request was about: look at what the earlier execution has left behind.';
    this.#fail(
      `status ${status}, as for the first request`,
      answer === undefined ? 'no answer' : shown(answer),
      remedy,
      answer?.status,
      status,
    );
  }

  /** Of two at once each is the one answer, or is told that the other is running. */
  areOfOneExecution(answers: readonly Outcome[], last: Answer, status: number): void {
    this.hasStatus(last, status);
    const isTurnedAway = (answer: Outcome): boolean => answer?.status === 409;
    const answered = answers.filter((answer): answer is Answer => answer !== undefined && !isTurnedAway(answer));
    for (const answer of answered) this.isReplay(last, answer);
    const firsts = answered.filter((answer) => answer.headers[REPLAYED] === undefined);
    if (answered.length === 0 || firsts.length > 1) {
      this.#fail(
        'one of them to run, and the other to be refused with 409 or to get the same answer',
        answers.map(shown).join(' and '),
        ONE_EFFECT,
      );
    }
  }

  async #growth(keys: 0 | 1): Promise<[name: string, grown: number, expected: number][]> {
    const after = await this.#count();
    return [...after].map(([name, count]) => {
      const unit = typeof this.perKey === 'number' ? this.perKey : (this.perKey[name] ?? 1);
      return [name, count - (this.#before.get(name) ?? 0), keys * unit];
    });
  }

  async #count(): Promise<ReadonlyMap<string, number>> {
    const counted = await this.effects();
    return new Map(typeof counted === 'number' ? [['effects', counted]] : Object.entries(counted));
  }

  #fail(expected: string, got: string, remedy: string, actualValue?: unknown, expectedValue?: unknown): never {
    throw new AssertionError({
      message: `The request is not idempotent: ${this.scenario}.\nExpected: ${expected}.\nGot: ${got}.\n${remedy}`,
      actual: actualValue,
      expected: expectedValue,
    });
  }
}

const SAME_ANSWER =
  'Nothing may change an answer on its way to the client but this library: look at middleware and interceptors of your own.';

const LONGEST_EXCERPT = 200;

function excerpt({ body }: Answer): string {
  const text = body.toString();
  return text.length <= LONGEST_EXCERPT ? text : `${text.slice(0, LONGEST_EXCERPT)}…`;
}

function shown(answer: Outcome): string {
  return answer === undefined ? 'no answer' : `${answer.status} ${excerpt(answer)}`.trim();
}
