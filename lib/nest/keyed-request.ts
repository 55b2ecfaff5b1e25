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
import type { Ending, Engine, Settlement } from '../engine/engine.js';
import type { OwnedExecution } from '../engine/execution.js';
import { toRecordedResponse } from '../http/recorded-headers.js';
import { tapResponse } from '../http/response-tap.js';
import type { AnswerHead, HeldAnswer, Instead, ResponseTap, TapHooks } from '../http/response-tap.js';
import type { ResponseDoor } from '../http/request-facts.js';
import { HandlerRun, HandlerTooLate } from './handler-run.js';
import { streamOf } from './streams.js';

export interface KeyedRequestParts {
  readonly engine: Engine;
  readonly execution: OwnedExecution;
  readonly response: ResponseDoor;
  readonly clock: Clock;
  /** Lower-case names of the header fields that are kept. */
  readonly keptHeaders: ReadonlySet<string>;
  /** Words a settlement other than `send` as an answer for this client. */
  readonly wordInstead: (settlement: Exclude<Settlement, { kind: 'send' }>) => Instead;
  /** Runs `work` where the handler below can find its execution. */
  readonly within: <T>(run: HandlerRun, work: () => T) => T;
  /** Whether the caller is called from there. */
  readonly isWithin: (run: HandlerRun) => boolean;
}

export class KeyedRequest implements TapHooks {
  readonly #run: HandlerRun;
  readonly #tap: ResponseTap;
  #settlement: Promise<Settlement> | undefined;
  /** Somebody outside has answered while the claim was on its way (a time-out in a middleware). */
  readonly #answeredBefore: boolean;
  #abandoned = false;

  constructor(private readonly parts: KeyedRequestParts) {
    this.#run = new HandlerRun({
      gave: (value) => {
        const stream = streamOf(value);
        if (stream !== undefined) this.#tap.shield(stream);
      },
      ended: () => this.#tap.handlerDone(),
    });
    const { response, execution, clock } = parts;
    const { maxBodyBytes, leaseMs } = execution.settings;
    execution.whenCalledOff(() => this.#callOff());
    this.#answeredBefore = response.raw.headersSent;
    this.#tap = tapResponse(response.raw, { maxBodyBytes, patienceMs: leaseMs, pendingHeaders: response.pendingHeaders(), clock }, this);
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
      this.parts.within(this.#run, () =>
        next.handle().subscribe({
          next: (value) => subscriber.next(value),
          error: (error: unknown) => {
            over = true;
            this.#leftBehind();
            subscriber.error(error);
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
      };
    });
  }

  async held(answer: HeldAnswer): Promise<Instead | undefined> {
    if (!this.#run.begun) return this.#refuseHandler();
    if (answer.truncated && this.#run.fulfilled) return this.#settle({ kind: 'seal', status: answer.status });
    if (answer.truncated || !this.#keeps(answer.status)) return this.#failed();
    const { settings } = this.parts.execution;
    const recorded = await toRecordedResponse(answer, this.parts.keptHeaders, settings.maxBodyBytes);
    return this.#settle(recorded === undefined ? { kind: 'seal', status: answer.status } : { kind: 'keep', answer: recorded });
  }

  async unholdable(head: AnswerHead): Promise<Instead | undefined> {
    if (!this.#run.begun) return this.#refuseHandler();
    return this.#keeps(head.status) ? this.#settle({ kind: 'seal', status: head.status }) : undefined;
  }

  async flowed(): Promise<void> {
    if (this.#settlement === undefined) await this.#failed();
  }

  unanswered(): void {
    if (!this.#run.begun) this.#run.close();
    void this.#settleByHandler();
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

  /** Without an answer of its own: fulfilled means the work was done, and must not be done again. */
  async #settleByHandler(): Promise<void> {
    await this.#run.whenIdle();
    await this.#settle(this.#run.fulfilled ? { kind: 'seal' } : { kind: 'free' });
  }

  /** The application closes, and has no more time for a handler that has not begun. */
  async #callOff(): Promise<void> {
    if (!this.#run.begun) await this.#refuseHandler();
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
  async #failed(): Promise<Instead | undefined> {
    if (!this.#run.atWork) return this.#settle({ kind: 'free' });
    if (this.parts.isWithin(this.#run)) void this.#run.whenIdle().then(() => this.#settle({ kind: 'free' }));
    else void this.#settleByHandler();
    return undefined;
  }

  #keeps(status: number): boolean {
    return this.parts.execution.settings.keeps(status, this.#run.error);
  }

  /** The first ending counts: an execution is settled once. */
  async #settle(ending: Ending): Promise<Instead | undefined> {
    this.#settlement ??= this.parts.engine.settle(this.parts.execution, ending);
    const settlement = await this.#settlement;
    return settlement.kind === 'send' ? undefined : this.parts.wordInstead(settlement);
  }
}
