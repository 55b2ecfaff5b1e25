/**
 * Follows the handler itself, beneath all interceptors and pipes: whether it began, whether it is
 * still at work, and how it ended. The decorated method reports here; what follows from it is the
 * keyed request's to decide.
 */
import { ServiceUnavailableException } from '@nestjs/common';
import { isObservable, lastValueFrom } from 'rxjs';

export interface HandlerWitness {
  /** Sees what the handler gave, before anybody else does. */
  gave(value: unknown): void;
  /** The handler's own work is over, one way or the other. */
  ended(): void;
  /** Where it may be called more than once. */
  readonly repetition?: Repetition;
}

export interface Repetition {
  /** The handler is about to be called. */
  begins(): void;
  /** It has done its work: rejects with what is to count as its failure all the same. `undefined` where nothing is to be asked. */
  done(value: unknown): Promise<void> | undefined;
  /** It has failed: whether it is to be called once more, or which error is to be passed on. */
  failed(error: unknown): Promise<'again' | { readonly error: unknown }>;
}

/** A handler, or whatever stands for one. */
export type Method = (this: unknown, ...args: unknown[]) => unknown;

type HandlerEnd = { readonly kind: 'fulfilled' } | { readonly kind: 'rejected'; readonly error: unknown };

const FULFILLED: HandlerEnd = { kind: 'fulfilled' };

export class HandlerRun {
  #begun = false;
  #closed = false;
  #atWork = 0;
  #end: HandlerEnd | undefined;
  #idle: (() => void)[] | undefined;

  constructor(private readonly witness: HandlerWitness) {}

  get begun(): boolean {
    return this.#begun;
  }

  get atWork(): boolean {
    return this.#atWork > 0;
  }

  /** What the handler threw, if it did, when it ended last. */
  get error(): unknown {
    return this.#end?.kind === 'rejected' ? this.#end.error : undefined;
  }

  get fulfilled(): boolean {
    return this.#end?.kind === 'fulfilled';
  }

  /** Keeps the handler from ever beginning: the request has been answered by somebody else and its key is free. */
  close(): void {
    this.#closed = true;
  }

  /** Resolves when the handler is not at work (any more). */
  whenIdle(): Promise<void> {
    return this.atWork ? new Promise((resolve) => (this.#idle ??= []).push(resolve)) : Promise.resolve();
  }

  /**
   * Calls the handler with what it was called with, and hands its result on. An Observable is subscribed to here and becomes a
   * promise of its last value, which is what Nest would make of it at the end of the chain: so
   * neither an impatient interceptor nor a client that hangs up can stop it half-way.
   */
  follow(method: Method, self?: unknown, args: unknown[] = []): unknown {
    if (this.#closed) throw new HandlerTooLate();
    this.#begun = true;
    this.#atWork += 1;
    if (this.witness.repetition !== undefined) return this.#followRepeatedly(method, self, args, this.witness.repetition);
    let result: unknown;
    try {
      result = method.apply(self, args);
    } catch (error) {
      return this.#failed(error);
    }
    return isObservable(result) || isThenable(result) ? this.#followPromise(result) : this.#fulfilled(result);
  }

  #followPromise(result: unknown): Promise<unknown> {
    const failed = (error: unknown): never => this.#failed(error);
    return Promise.resolve(result).then(
      (value) => (isObservable(value) ? lastValueFrom(value).then((last) => this.#fulfilled(last), failed) : this.#fulfilled(value)),
      failed,
    );
  }

  #followRepeatedly(method: Method, self: unknown, args: unknown[], repetition: Repetition): Promise<unknown> {
    return callRepeatedly(() => method.apply(self, args), repetition).then(
      (value) => this.#fulfilled(value),
      (error: unknown) => this.#failed(error),
    );
  }

  #fulfilled(value: unknown): unknown {
    try {
      this.witness.gave(value);
    } catch (error) {
      return this.#failed(error);
    }
    this.#ended(FULFILLED);
    return value;
  }

  #failed(error: unknown): never {
    this.#ended({ kind: 'rejected', error });
    throw error;
  }

  #ended(end: HandlerEnd): void {
    this.#end = end;
    this.#atWork -= 1;
    if (this.#atWork > 0) return;
    for (const resolve of this.#idle?.splice(0) ?? []) resolve();
    this.witness.ended();
  }
}

/** Mostly nobody sees it, the request having been answered by then; or the application is closing, and it is answered by this. */
export class HandlerTooLate extends ServiceUnavailableException {
  constructor() {
    super('The request was given up before its handler began, so the handler did not run.');
  }
}

/** What the handler comes to in the end. */
async function callRepeatedly(call: () => unknown, repetition: Repetition): Promise<unknown> {
  repetition.begins();
  for (;;) {
    try {
      const result = await call();
      const value = isObservable(result) ? await lastValueFrom(result) : result;
      const asking = repetition.done(value);
      if (asking !== undefined) await asking;
      return value;
    } catch (error) {
      const next = await repetition.failed(error);
      if (next !== 'again') throw next.error;
    }
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
