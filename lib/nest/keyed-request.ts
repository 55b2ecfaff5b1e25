/**
 * One request that owns its key, from the handler's call to the answer's leaving: it brings together
 * what the handler did (`HandlerRun`) and what was written (`ResponseTap`), and tells the engine how
 * it ended. Nothing leaves before the engine has said so.
 *
 * What was written counts as the handler's answer unless somebody answered in its place while it was
 * still at work (a time-out in an interceptor): then that answer leaves at once, and the handler's own
 * end decides later what becomes of the key.
 */
import type { Subscriber } from 'rxjs';
import type { Clock } from '../contract/clock.js';
import { AnswerTooEarly, AnswerTooLarge, TransactionFailed, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { IdempotentExecution } from '../contract/execution.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { AtomicSettings } from '../contract/settings.js';
import { isTransient } from '../engine/atomic.js';
import type { Engine } from '../engine/engine.js';
import type { Ending, Found, Settlement } from '../engine/verdict.js';
import type { OwnedExecution } from '../engine/execution.js';
import { toRecordedResponse } from '../http/recorded-headers.js';
import { tapResponse } from '../http/response-tap.js';
import type { AnswerHead, HeldAnswer, Instead, ResponseTap, TapHooks } from '../http/response-tap.js';
import type { Arrival } from './arrival.js';
import { enter, isWithinRun } from './context.js';
import { Following } from './following.js';
import type { Followed } from './following.js';
import { HandlerRepetition } from './handler-repetition.js';
import { HandlerRun, HandlerTooLate } from './handler-run.js';
import type { HandlerWitness, Repetition } from './handler-run.js';
import { streamOf } from './streams.js';

/** What all requests that come to one interceptor have in common. */
export interface KeyedRequestRules {
  readonly engine: Engine;
  readonly clock: Clock;
  /** The module instance, to which their frames belong. */
  readonly instance: object;
  /** Lower-case names of the header fields that are kept. */
  readonly keptHeaders: ReadonlySet<string>;
  /** What is stored of an answer; `undefined` where that can't be told, and nothing is. */
  redact(arrival: Arrival, answer: RecordedResponse): RecordedResponse | undefined;
  /** Words what leaves instead of the handler's answer. */
  wordInstead(arrival: Arrival, found: Found): Instead;
  /** The exception for Nest's filters. */
  refusal(arrival: Arrival, error: IdempotencyError): Error;
}

/**
 * In atomic mode nothing may leave before the COMMIT, so that a large answer can't flow past: it is
 * held to this multiple of what is kept, and then refused.
 */
const ATOMIC_HOLD = 8;

export class KeyedRequest implements TapHooks, HandlerWitness, Followed {
  readonly run: HandlerRun;
  readonly #tap: ResponseTap;
  #settlement: Promise<Settlement> | undefined;
  /** Somebody outside has answered while the claim was on its way (a time-out in a middleware). */
  readonly #answeredBefore: boolean;
  #abandoned = false;
  /** An answer that could not be held is on its way, and it is none to keep. */
  #notKept = false;
  readonly repetition: Repetition | undefined;

  constructor(
    private readonly rules: KeyedRequestRules,
    private readonly arrival: Arrival,
    private readonly execution: OwnedExecution,
  ) {
    const { response } = arrival.exchange;
    const { maxBodyBytes, leaseMs, atomic } = execution.settings;
    this.repetition = atomic && this.#repetition(atomic);
    execution.whenCalledOff(this);
    this.#answeredBefore = response.raw.headersSent;
    this.run = new HandlerRun(this);
    const heldBytes = atomic === undefined ? maxBodyBytes : ATOMIC_HOLD * maxBodyBytes;
    const pendingHeaders = response.pendingHeaders();
    this.#tap = tapResponse(response.raw, { maxBodyBytes: heldBytes, patienceMs: leaseMs, pendingHeaders, clock: rules.clock }, this);
  }

  /**
   * Runs what lies below for `subscriber`.
   *
   * @param handed the execution as the handler sees it
   */
  follow(subscriber: Subscriber<unknown>, handed: IdempotentExecution): void {
    if (this.#answeredBefore) {
      this.#tap.letThrough();
      void this.#refuseHandler();
      return subscriber.error(new HandlerTooLate());
    }
    const { route, exchange, next } = this.arrival;
    const stay = enter(exchange.native, { instance: this.rules.instance, execution: handed, handlerToken: route.token, run: this.run });
    new Following(this, subscriber, stay).begin(next);
  }

  refusal(error: IdempotencyError): Error {
    return this.rules.refusal(this.arrival, error);
  }

  // What the handler did:

  gave(value: unknown): void {
    const stream = streamOf(value);
    if (stream !== undefined) this.#tap.shield(stream);
  }

  ended(): void {
    this.#tap.handlerDone();
  }

  // What was written:

  held(answer: HeldAnswer): Promise<Instead | undefined> {
    if (!this.run.begun) return this.#refuseHandler();
    if (this.#atomic && this.run.atWork && this.#keeps(answer.status)) return this.#heldTooEarly(answer);
    return this.#endWith(answer);
  }

  async unholdable(head: AnswerHead): Promise<Instead | undefined> {
    if (!this.run.begun) return this.#refuseHandler();
    if (this.#atomic) return this.#refuseAnswer(new AnswerTooLarge());
    if (this.#keeps(head.status)) return this.#seal(head.status);
    this.#notKept = true;
    return undefined;
  }

  async flowed(): Promise<void> {
    if (this.#settlement === undefined) await this.#failedWith();
  }

  unanswered(): void {
    if (!this.run.begun || this.#notKept) void this.#refuseHandler();
    else void this.#settleByHandler();
  }

  // What becomes of it:

  /** In atomic mode, with the handler still at work. */
  async #heldTooEarly(answer: HeldAnswer): Promise<Instead | undefined> {
    if (!(await this.#handlerDone())) return this.#refuseAnswer(new AnswerTooEarly());
    if (this.#abandoned) return undefined;
    if (this.#threw) return this.#refuseAnswer(new TransactionFailed(isTransient(this.run.error), { cause: this.run.error })); // it promised too much
    return this.#endWith(answer);
  }

  #endWith(answer: HeldAnswer): Promise<Instead | undefined> {
    if (answer.truncated && this.run.fulfilled) return this.#seal(answer.status);
    if (answer.truncated || !this.#keeps(answer.status)) return this.#failedWith();
    const { maxBodyBytes, window } = this.execution.settings;
    const wanted = window?.answer !== 'reject' && answer.body.length <= maxBodyBytes;
    const recorded = wanted ? toRecordedResponse(answer, this.rules.keptHeaders, maxBodyBytes) : undefined;
    return recorded instanceof Promise
      ? recorded.then((decoded) => this.#keep(answer.status, decoded))
      : this.#keep(answer.status, recorded);
  }

  #keep(status: number, recorded: RecordedResponse | undefined): Promise<Instead | undefined> {
    const stored = recorded === undefined ? undefined : this.rules.redact(this.arrival, recorded);
    return stored === undefined ? this.#seal(status) : this.#settle({ kind: 'keep', answer: stored, undo: this.#threw });
  }

  /**
   * Somebody above or between has given up on the handler. If it is at work, their answer is not its
   * answer: it passes, and the handler's own end settles. If it has not begun, it never will, and
   * nobody may be there to answer (the client is gone): so the key is freed right here.
   */
  leftBehind(): void {
    if (!this.run.begun) return void this.#refuseHandler();
    if (!this.run.atWork || this.#abandoned || this.#settlement !== undefined) return;
    this.#abandoned = true;
    this.#tap.letThrough();
    void this.#settleByHandler();
  }

  /** Without an answer of its own: fulfilled means that the work was done, unless it can be undone. */
  async #settleByHandler(): Promise<void> {
    await this.run.whenIdle();
    if (this.run.fulfilled && !this.#atomic) await this.#seal(undefined);
    else await this.#settle({ kind: 'free' });
  }

  /** The application closes, and has no more time for a handler that has not begun. */
  async callOff(): Promise<void> {
    if (!this.run.begun) await this.#refuseHandler();
  }

  /**
   * In atomic mode there is nothing to commit before the handler is done. One that waits for its own
   * answer to be sent (`await pipeline(file, response)`) would wait for ever, and we with it.
   */
  #handlerDone(): Promise<boolean> {
    const { clock } = this.rules;
    return new Promise((resolve) => {
      const cancel = clock.after(this.execution.settings.leaseMs, () => resolve(false));
      void this.run.whenIdle().then(() => {
        cancel();
        resolve(true);
      });
    });
  }

  /** In atomic mode an answer that can't be committed undoes everything. */
  async #refuseAnswer(error: IdempotencyError): Promise<Instead> {
    await this.#settle({ kind: 'free' });
    return this.rules.wordInstead(this.arrival, { kind: 'refuse', error });
  }

  /** A pipe, a guard behind us or an interceptor refused, or answered itself: the key is as free as before. */
  #refuseHandler(): Promise<Instead | undefined> {
    this.run.close();
    return this.#settle({ kind: 'free' });
  }

  /**
   * An outcome not to keep frees the key before it leaves. If the handler still works, it leaves at
   * once, since the handler may be waiting for just that, and the key is free when the handler is
   * done; unless it was not the handler who wrote it (a time-out in a middleware), and it succeeds.
   */
  async #failedWith(): Promise<Instead | undefined> {
    if (!this.run.atWork) return this.#settle({ kind: 'free' });
    if (isWithinRun(this.run)) void this.run.whenIdle().then(() => this.#settle({ kind: 'free' }));
    else void this.#settleByHandler();
    return undefined;
  }

  #repetition({ retries }: AtomicSettings): HandlerRepetition {
    const { execution } = this;
    return new HandlerRepetition({
      engine: this.rules.engine,
      execution,
      response: this.arrival.exchange.response,
      retries,
      refusal: (error) => this.refusal(error),
      isWanted: () => !this.#abandoned,
    });
  }

  get #atomic(): boolean {
    return this.execution.transaction !== undefined;
  }

  get #threw(): boolean {
    return this.run.error !== undefined;
  }

  /** A refusal of ours from below, such as a `run` whose key is in use, is about that moment and no answer of the handler's. */
  #keeps(status: number): boolean {
    const { error } = this.run;
    return !(isIdempotencyError(error) && !error.lasting) && this.execution.settings.keeps(status, error);
  }

  #seal(status: number | undefined): Promise<Instead | undefined> {
    return this.#settle({ kind: 'seal', ...(status === undefined ? {} : { status }), undo: this.#threw });
  }

  /** The first ending counts: an execution is settled once. */
  #settle(ending: Ending): Promise<Instead | undefined> {
    this.#settlement ??= this.rules.engine.settle(this.execution, ending);
    return this.#settlement.then((settlement) =>
      settlement.kind === 'send' ? undefined : this.rules.wordInstead(this.arrival, settlement),
    );
  }
}
