/**
 * Repeats an atomic handler that has met another transaction: in a new one, and with the response as
 * it was. That is possible until its value is handed on to the interceptors above, which can't be
 * called again. So before, Postgres is asked for what it would otherwise say at COMMIT.
 */
import { StoreUnavailable, TransactionFailed } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import { isTransient, probe } from '../engine/atomic.js';
import type { Engine } from '../engine/engine.js';
import type { OwnedExecution } from '../engine/execution.js';
import type { ResponseDoor } from '../http/request-facts.js';
import type { Repetition } from './handler-run.js';
import { isStream } from './streams.js';

export interface HandlerRepetitionParts {
  readonly engine: Engine;
  readonly execution: OwnedExecution;
  readonly response: ResponseDoor;
  readonly retries: number;
  /** The exception for Nest's filters. */
  readonly refusal: (error: IdempotencyError) => Error;
  /** Whether the handler's outcome still matters: an interceptor may have given up on it. */
  readonly isWanted: () => boolean;
}

export class HandlerRepetition implements Repetition {
  #left: number;
  #restoreResponse: () => void = () => undefined;

  constructor(private readonly parts: HandlerRepetitionParts) {
    this.#left = parts.retries;
  }

  begins(): void {
    if (this.#left > 0) this.#restoreResponse = this.parts.response.remember();
  }

  /** Where nothing could be repeated, nothing is asked. A stream is handed on at once: until it is read, nobody hears its errors. */
  done(value: unknown): Promise<void> | undefined {
    const { transaction } = this.parts.execution;
    return transaction !== undefined && this.#left > 0 && this.#isOpen && !isStream(value) ? probe(transaction) : undefined;
  }

  async failed(error: unknown): Promise<'again' | { readonly error: unknown }> {
    const { engine, execution, refusal } = this.parts;
    if (!isTransient(error) || !this.#isOpen) return { error };
    try {
      if (this.#left > 0 && (await engine.restart(execution))) {
        this.#left -= 1;
        this.#restoreResponse();
        return 'again';
      }
    } catch (cause) {
      return { error: refusal(new StoreUnavailable({ cause })) };
    }
    return { error: refusal(new TransactionFailed(true, { cause: error })) };
  }

  /** Nobody has answered in the handler's place, and it has not written an answer itself, which can't be taken back. */
  get #isOpen(): boolean {
    return this.parts.isWanted() && !this.parts.response.raw.headersSent;
  }
}
