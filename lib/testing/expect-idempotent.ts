/**
 * One request, sent in all the ways in which clients, networks and processes make a mess of it, and
 * what must come of each: one effect, and equal answers. The scenarios are told here; how a request
 * is sent and an execution is ended is known elsewhere.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { INestApplication } from '@nestjs/common';
import { Findings } from './findings.js';
import type { Effects } from './findings.js';
import { send } from './sender.js';
import type { Answer, IdempotentRequest, Outcome } from './sender.js';
import { Stage } from './stage.js';
import type { Trial } from './trial.js';

export type { Effects, IdempotentRequest };

export interface ExpectIdempotentOptions {
  /** Counts the business effects there are right now, such as rows of a table or calls of a fake provider. */
  readonly effects: () => Effects | Promise<Effects>;
  /** What the work of one key adds to each of these. Default: 1. Give 0 for a request that is refused by your own rules. */
  readonly perKey?: Effects;
  /** A body that makes it another request. Default: `body` with something added. `false`: this scenario is left out. */
  readonly otherBody?: unknown;
  /** Whether executions are ended at each of their statements and steps. Default: `true`. */
  readonly crashes?: boolean;
}

/** A retry may come before the crashed execution has let go of everything. Longer than that is no crash but a hang. */
const LONGEST_IN_USE_MS = 10_000;
const ASK_AGAIN_MS = 20;

/**
 * Sends a request once, again, twice at once, with another body, and with a crash at each point of
 * its execution; and asserts that each key had one effect and every answer of a key is the same.
 *
 * @param app listening or not, on Express or Fastify
 * @param request it gets a key unless it has one. A function is called for each new request: for keys
 *   that are in the path or the body, or that have a form of their own
 * @throws AssertionError that says which scenario failed, what was expected and what to do
 */
export async function expectIdempotent(
  app: INestApplication,
  request: IdempotentRequest | (() => IdempotentRequest),
  options: ExpectIdempotentOptions,
): Promise<void> {
  const stage = await Stage.open(app);
  try {
    const scenarios = new Scenarios(stage, request, options);
    await scenarios.onceAndAgain();
    await scenarios.twiceAtOnce();
    if (options.crashes ?? true) await scenarios.crashes();
  } finally {
    await stage.close();
  }
}

class Scenarios {
  readonly #findings: Findings;
  readonly #header: string;
  /** What the first request was answered with: a retry after a crash must come to the same. */
  #status = 0;

  constructor(
    private readonly stage: Stage,
    private readonly request: IdempotentRequest | (() => IdempotentRequest),
    private readonly options: ExpectIdempotentOptions,
  ) {
    const { routes, keptHeaders } = stage.options;
    this.#header = (typeof routes.header === 'string' ? routes.header : (routes.header[0] ?? '')).toLowerCase();
    this.#findings = new Findings(options.effects, options.perKey ?? 1, keptHeaders);
  }

  async onceAndAgain(): Promise<void> {
    const findings = this.#findings;
    const request = this.#first();
    const trial = this.stage.trial();
    await findings.begin('sent once');
    const first = await this.#answerTo(request, trial);
    findings.isFirst(first);
    findings.isProtected(trial, first);
    await findings.hadEffect(1);
    this.#status = first.status;

    await findings.begin('sent again with its key');
    const again = await this.#answerTo(request, this.stage.trial());
    findings.isReplay(again, first);
    await findings.hadEffect(0);
    await this.#withAnotherBody(request, trial);
  }

  async twiceAtOnce(): Promise<void> {
    const findings = this.#findings;
    const request = this.#fresh();
    await findings.begin('sent twice at once');
    const gate = gateFor(2);
    const [one, other] = await Promise.all(
      [0, 1].map(() => send(this.stage, request, { trial: this.stage.trial(), gate: gate.open, onArrival: gate.arrive })),
    );
    const last = await this.#untilAnswered(request);
    findings.areOfOneExecution([one, other], last, this.#status);
    await findings.hadEffect(1);
  }

  /** From the first point on, until an execution has no more points. */
  async crashes(): Promise<void> {
    for (let at = 0; ; at += 1) {
      const trial = this.stage.trial(at);
      const request = this.#fresh();
      await this.#findings.begin(`crash number ${at + 1}`);
      const answer = await send(this.stage, request, { trial });
      if (!trial.isDead) return this.#wentThrough(answer);
      this.#findings.scenario = `crashed ${trial.crashedAt}`;
      await trial.ended;
      await this.stage.endLeases(trial);
      await this.#retried(request);
    }
  }

  async #wentThrough(answer: Outcome): Promise<void> {
    this.#findings.scenario = 'sent with another key';
    this.#findings.hasStatus(answer, this.#status);
    await this.#findings.hadEffect(1);
  }

  async #retried(request: IdempotentRequest): Promise<void> {
    const findings = this.#findings;
    const retry = await this.#untilAnswered(request);
    const isUndecided = codeOf(retry) === 'IDEMPOTENCY_OUTCOME_UNKNOWN';
    if (isUndecided) return findings.hadEffectAtMost(1); // onLostExecution: 'reject', until somebody has looked
    findings.hasStatus(retry, this.#status);
    findings.isReplay(await this.#answerTo(request, this.stage.trial()), retry);
    await findings.hadEffect(1);
  }

  async #withAnotherBody(request: IdempotentRequest, { claim }: Trial): Promise<void> {
    const { otherBody } = this.options;
    const isNatural = claim?.identity.key !== request.headers?.[this.#header]; // the key alone says what it is about
    if (otherBody === false || (isNatural && otherBody === undefined)) return;
    await this.#findings.begin('sent with its key and another body');
    const other = otherBody === undefined ? changed(request) : { ...request, body: otherBody };
    this.#findings.isRefused(await this.#answerTo(other, this.stage.trial()));
    await this.#findings.hadEffect(0);
  }

  /** As a client does that is told that the first request is still running. */
  async #untilAnswered(request: IdempotentRequest): Promise<Answer> {
    for (let waited = 0; ; waited += ASK_AGAIN_MS) {
      const answer = await this.#answerTo(request, this.stage.trial());
      if (codeOf(answer) !== 'IDEMPOTENCY_KEY_IN_USE' || waited >= LONGEST_IN_USE_MS) return answer;
      await pause(ASK_AGAIN_MS);
    }
  }

  async #answerTo(request: IdempotentRequest, trial: Trial): Promise<Answer> {
    const answer = await send(this.stage, request, { trial });
    if (answer === undefined) throw new Error(`The connection of ${request.url} was closed before its answer was complete.`);
    return answer;
  }

  #first(): IdempotentRequest {
    const request = lowerCased(typeof this.request === 'function' ? this.request() : this.request);
    return request.headers[this.#header] === undefined ? this.#withKey(request) : request;
  }

  /** What a function makes is a new request already. */
  #fresh(): IdempotentRequest {
    return typeof this.request === 'function' ? this.#first() : this.#withKey(lowerCased(this.request));
  }

  #withKey(request: IdempotentRequest): IdempotentRequest {
    return { ...request, headers: { ...request.headers, [this.#header]: randomUUID() } };
  }
}

function lowerCased(request: IdempotentRequest): IdempotentRequest & { readonly headers: Readonly<Record<string, string>> } {
  const headers = Object.entries(request.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const);
  return { ...request, headers: Object.fromEntries(headers) };
}

/** The same request, but for something that its handler never sees: it is refused before. */
function changed(request: IdempotentRequest): IdempotentRequest {
  const { body, url } = request;
  const mark = randomUUID();
  if (body === undefined) return { ...request, url: `${url}${url.includes('?') ? '&' : '?'}other=${mark}` };
  if (body instanceof Uint8Array) return { ...request, body: Buffer.concat([body, Buffer.from(mark)]) };
  return { ...request, body: typeof body === 'string' ? changedText(body, mark) : changedJson(body, mark) };
}

/** It must still be what its media type says, or it would be refused for that. */
function changedText(text: string, mark: string): string {
  try {
    return JSON.stringify(changedJson(JSON.parse(text), mark));
  } catch {
    return /^[^=&\s]+=/.test(text) ? `${text}&other=${mark}` : `${text} ${mark}`;
  }
}

function changedJson(value: unknown, mark: string): unknown {
  if (Array.isArray(value)) return [...(value as unknown[]), mark];
  return typeof value === 'object' && value !== null ? { ...value, other: mark } : mark;
}

function gateFor(size: number): { readonly open: Promise<void>; readonly arrive: () => void } {
  let arrived = 0;
  let openGate!: () => void;
  const open = new Promise<void>((resolve) => {
    openGate = resolve;
  });
  return {
    open,
    arrive() {
      arrived += 1;
      if (arrived === size) openGate();
    },
  };
}

function codeOf({ body }: Answer): unknown {
  try {
    return (JSON.parse(body.toString()) as { readonly code?: unknown } | null)?.code;
  } catch {
    return undefined;
  }
}
