/**
 * What is going on right now, wherever below a handler somebody asks. One AsyncLocalStorage serves
 * all copies of this library in a process (an ESM and a CommonJS one may both be loaded); what it
 * holds says which module instance each frame belongs to, so that two applications never meet.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IdempotentExecution } from '../contract/execution.js';
import type { HandlerRun } from './handler-run.js';

/** One idempotent request on its way through one module instance. */
export interface Frame {
  /** The module instance it belongs to; compared by identity. */
  readonly instance: object;
  readonly execution: IdempotentExecution;
  /** Which decorated method it is meant for: the decorator's token. */
  readonly handlerToken: object;
  /** Follows the handler; without a key there is nothing to follow it for. */
  readonly run: HandlerRun | undefined;
  /** Inside a step's work, where the atomic transaction is out of reach. */
  readonly inStep: boolean;
  /** The frame around it, if a handler is called from within another one's context. */
  readonly outer: Frame | undefined;
}

const SLOT = Symbol.for('nestjs-idempotency-pg.frames.v1');

function frames(): AsyncLocalStorage<Frame> {
  const shared = globalThis as { [SLOT]?: AsyncLocalStorage<Frame> };
  return (shared[SLOT] ??= new AsyncLocalStorage<Frame>());
}

export function withFrame<T>({ instance, execution, handlerToken, run }: Omit<Frame, 'outer' | 'inStep'>, work: () => T): T {
  const storage = frames();
  return storage.run({ instance, execution, handlerToken, run, inStep: false, outer: storage.getStore() }, work);
}

/** Runs a step's work: what it does elsewhere can't be rolled back, so it must not hang on what can. */
export function withinStep<T>(work: () => T): T {
  const storage = frames();
  const frame = storage.getStore();
  return frame === undefined ? work() : storage.run({ ...frame, inStep: true }, work);
}

export function isInStep(): boolean {
  return frames().getStore()?.inStep ?? false;
}

/** @throws Error within a step's work */
export function refuseWithinStep(): void {
  if (isInStep()) {
    throw new Error(
      "The atomic transaction can't be used within a step's work: its result would be recorded even if the transaction is rolled back. Use it before or after the step.",
    );
  }
}

/** The execution that `instance` is in the middle of. */
export function currentExecution(instance: object): IdempotentExecution | undefined {
  return innermost((frame) => frame.instance === instance)?.execution;
}

/** The execution of the handler that is being called, whichever module instance it belongs to. */
export function innermostExecution(): IdempotentExecution | undefined {
  return frames().getStore()?.execution;
}

/** The handler run that was prepared for the method with this token, if a request is on its way to it. */
export function runFor(handlerToken: object): HandlerRun | undefined {
  return innermost((frame) => frame.handlerToken === handlerToken)?.run;
}

/** Whether the caller is called from where `run` follows its handler. */
export function isWithinRun(run: HandlerRun): boolean {
  return innermost((frame) => frame.run === run) !== undefined;
}

function innermost(fits: (frame: Frame) => boolean): Frame | undefined {
  let frame = frames().getStore();
  while (frame !== undefined && !fits(frame)) frame = frame.outer;
  return frame;
}
