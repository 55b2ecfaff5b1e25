/**
 * One request that owns its key, from the handler's call to the answer's leaving: it brings together
 * what the handler did (`HandlerRun`) and what was written (`ResponseTap`), and tells the engine how
 * it ended. Nothing leaves before the engine has said so.
 *
 * What was written counts as the handler's answer unless somebody answered in its place while it was
 * still at work (a time-out in an interceptor): then that answer leaves at once, and the handler's own
 * end decides later what becomes of the key.
 */
import { Observable } from 'rxjs';
import type { CallHandler } from '@nestjs/common';
import type { Clock } from '../contract/clock.js';
import { AnswerTooEarly, AnswerTooLarge, TransactionFailed, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { isTransient } from '../engine/atomic.js';
import type { Engine } from '../engine/engine.js';
import type { Ending, Found, Settlement } from '../engine/verdict.js';
import type { OwnedExecution } from '../engine/execution.js';
import { toRecordedResponse } from '../http/recorded-headers.js';
import { tapResponse } from '../http/response-tap.js';
import type { AnswerHead, HeldAnswer, Instead, ResponseTap, TapHooks } from '../http/response-tap.js';
import type { ResponseDoor } from '../http/request-facts.js';
import type { Stay } from './context.js';
import { HandlerRepetition } from './handler-repetition.js';
import { HandlerRun, HandlerTooLate } from './handler-run.js';
import type { HandlerWitness, Repetition } from './handler-run.js';
import { streamOf } from './streams.js';

export interface KeyedRequestParts {
  readonly engine: Engine;
  readonly execution: OwnedExecution;
  readonly response: ResponseDoor;
  readonly clock: Clock;
  /** Lower-case names of the header fields that are kept. */
  readonly keptHeaders: ReadonlySet<string>;
  /** What is stored of an answer; `undefined` where that can't be told, and nothing is. */
  readonly redact: (answer: RecordedResponse) => RecordedResponse | undefined;
  /** Words what leaves instead of the handler's answer. */
  readonly wordInstead: (found: Found) => Instead;
  /** The exception for Nest's filters. */
  readonly refusal: (error: IdempotencyError) => Error;
  /** Lets the handler below find its execution. */
  readonly enter: (run: HandlerRun) => Stay;
  /** Whether the caller is called from there, as far as that is known. */
  readonly isWithin: (run: HandlerRun) => boolean;
}

/**
 * In atomic mode nothing may leave before the COMMIT, so that a large answer can't flow past: it is
 * held to this multiple of what is kept, and then refused.
 */
const ATOMIC_HOLD = 8;

export class KeyedRequest implements TapHooks, HandlerWitness {
  readonly #run: HandlerRun;
  readonly #tap: ResponseTap;
  #settlement: Promise<Settlement> | undefined;
  /** Somebody outside has answered while the claim was on its way (a time-out in a middleware). */
  readonly #answeredBefore: boolean;
  #abandoned = false;
  /** An answer that could not be held is on its way, and it is none to keep. */
  #notKept = false;
  readonly repetition?: Repetition;

  constructor(private readonly parts: KeyedRequestParts) {
    const { response, execution, clock } = parts;
    const { maxBodyBytes, leaseMs, atomic } = execution.settings;
    if (atomic !== undefined) {
      this.repetition = new HandlerRepetition({ ...parts, retries: atomic.retries, isWanted: () => !this.#abandoned });
    }
    execution.whenCalledOff(() => this.#callOff());
    this.#answeredBefore = response.raw.headersSent;
    this.#run = new HandlerRun(this);
    const held = { maxBodyBytes: atomic === undefined ? maxBodyBytes : ATOMIC_HOLD * maxBodyBytes, patienceMs: leaseMs };
    this.#tap = tapResponse(response.raw, { ...held, pendingHeaders: response.pendingHeaders(), clock }, this);
  }

  /** Runs what lies below, and keeps its own subscription whatever those above do with theirs. */
  follow(next: CallHandler): Observable<unknown> {
    return new Observable((subscriber) => {
      if (this.#answeredBefore) {
        this.#tap.letThrough();
        void this.#refuseHandler();
        return subscriber.error(new HandlerTooLate());
      }
      let over = false;
      const stay = this.parts.enter(this.#run);
      stay.run(() =>
        next.handle().subscribe({
          next: (value) => subscriber.next(value),
          error: (error: unknown) => {
            over = true;
            this.#leftBehind();
            subscriber.error(isIdempotencyError(error) ? this.parts.refusal(error) : error);
          },
          complete: () => {
            over = true;
            this.#leftBehind();
            subscriber.complete();
          },
        }),
      );
      return () => {
        if (!over) this.#leftBehind();
        if (this.#run.atWork) void this.#run.whenIdle().then(() => stay.leave());
        else stay.leave();
      };
    });
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
    if (!this.#run.begun) return this.#refuseHandler();
    if (this.#atomic && this.#run.atWork && this.#keeps(answer.status)) return this.#heldTooEarly(answer);
    return this.#endWith(answer);
  }

  async unholdable(head: AnswerHead): Promise<Instead | undefined> {
    if (!this.#run.begun) return this.#refuseHandler();
    if (this.#atomic) return this.#refuseAnswer(new AnswerTooLarge());
    if (this.#keeps(head.status)) return this.#seal(head.status);
    this.#notKept = true;
    return undefined;
  }

  async flowed(): Promise<void> {
    if (this.#settlement === undefined) await this.#failedWith();
  }

  unanswered(): void {
    if (!this.#run.begun || this.#notKept) void this.#refuseHandler();
    else void this.#settleByHandler();
  }

  // What becomes of it:

  /** In atomic mode, with the handler still at work. */
  async #heldTooEarly(answer: HeldAnswer): Promise<Instead | undefined> {
    if (!(await this.#handlerDone())) return this.#refuseAnswer(new AnswerTooEarly());
    if (this.#abandoned) return undefined;
    if (this.#threw) return this.#refuseAnswer(new TransactionFailed(isTransient(this.#run.error), { cause: this.#run.error })); // it promised too much
    return this.#endWith(answer);
  }

  #endWith(answer: HeldAnswer): Promise<Instead | undefined> {
    if (answer.truncated && this.#run.fulfilled) return this.#seal(answer.status);
    if (answer.truncated || !this.#keeps(answer.status)) return this.#failedWith();
    const { maxBodyBytes, window } = this.parts.execution.settings;
    const wanted = window?.answer !== 'reject' && answer.body.length <= maxBodyBytes;
    const recorded = wanted ? toRecordedResponse(answer, this.parts.keptHeaders, maxBodyBytes) : undefined;
    return recorded instanceof Promise
      ? recorded.then((decoded) => this.#keep(answer.status, decoded))
      : this.#keep(answer.status, recorded);
  }

  #keep(status: number, recorded: RecordedResponse | undefined): Promise<Instead | undefined> {
    const stored = recorded === undefined ? undefined : this.parts.redact(recorded);
    return stored === undefined ? this.#seal(status) : this.#settle({ kind: 'keep', answer: stored, undo: this.#threw });
  }

  /**
   * Somebody above or between has given up on the handler. If it is at work, their answer is not its
   * answer: it passes, and the handler's own end settles. If it has not begun, it never will, and
   * nobody may be there to answer (the client is gone): so the key is freed right here.
   */
  #leftBehind(): void {
    if (!this.#run.begun) return void this.#refuseHandler();
    if (!this.#run.atWork || this.#abandoned || this.#settlement !== undefined) return;
    this.#abandoned = true;
    this.#tap.letThrough();
    void this.#settleByHandler();
  }

  /** Without an answer of its own: fulfilled means that the work was done, unless it can be undone. */
  async #settleByHandler(): Promise<void> {
    await this.#run.whenIdle();
    if (this.#run.fulfilled && !this.#atomic) await this.#seal(undefined);
    else await this.#settle({ kind: 'free' });
  }

  /** The application closes, and has no more time for a handler that has not begun. */
  async #callOff(): Promise<void> {
    if (!this.#run.begun) await this.#refuseHandler();
  }

  /**
   * In atomic mode there is nothing to commit before the handler is done. One that waits for its own
   * answer to be sent (`await pipeline(file, response)`) would wait for ever, and we with it.
   */
  #handlerDone(): Promise<boolean> {
    const { clock, execution } = this.parts;
    return new Promise((resolve) => {
      const cancel = clock.after(execution.settings.leaseMs, () => resolve(false));
      void this.#run.whenIdle().then(() => {
        cancel();
        resolve(true);
      });
    });
  }

  /** In atomic mode an answer that can't be committed undoes everything. */
  async #refuseAnswer(error: IdempotencyError): Promise<Instead> {
    await this.#settle({ kind: 'free' });
    return this.parts.wordInstead({ kind: 'refuse', error });
  }

  /** A pipe, a guard behind us or an interceptor refused, or answered itself: the key is as free as before. */
  #refuseHandler(): Promise<Instead | undefined> {
    this.#run.close();
    return this.#settle({ kind: 'free' });
  }

  /**
   * An outcome not to keep frees the key before it leaves. If the handler still works, it leaves at
   * once, since the handler may be waiting for just that, and the key is free when the handler is
   * done; unless it was not the handler who wrote it (a time-out in a middleware), and it succeeds.
   */
  async #failedWith(): Promise<Instead | undefined> {
    if (!this.#run.atWork) return this.#settle({ kind: 'free' });
    if (this.parts.isWithin(this.#run)) void this.#run.whenIdle().then(() => this.#settle({ kind: 'free' }));
    else void this.#settleByHandler();
    return undefined;
  }

  get #atomic(): boolean {
    return this.parts.execution.transaction !== undefined;
  }

  get #threw(): boolean {
    return this.#run.error !== undefined;
  }

  /** A refusal of ours from below, such as a `run` whose key is in use, is about that moment and no answer of the handler's. */
  #keeps(status: number): boolean {
    const { error } = this.#run;
    return !(isIdempotencyError(error) && !error.lasting) && this.parts.execution.settings.keeps(status, error);
  }

  #seal(status: number | undefined): Promise<Instead | undefined> {
    return this.#settle({ kind: 'seal', ...(status === undefined ? {} : { status }), undo: this.#threw });
  }

  /** The first ending counts: an execution is settled once. */
  #settle(ending: Ending): Promise<Instead | undefined> {
    this.#settlement ??= this.parts.engine.settle(this.parts.execution, ending);
    return this.#settlement.then((settlement) => (settlement.kind === 'send' ? undefined : this.parts.wordInstead(settlement)));
  }
}
