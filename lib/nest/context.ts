/**
 * What is going on right now, wherever below a handler somebody asks. One AsyncLocalStorage serves
 * all copies of this library in a process (an ESM and a CommonJS one may both be loaded); what it
 * holds says which module instance each frame belongs to, so that two applications never meet.
 *
 * Before Node 24 a context makes every promise of the process dear, the application's own included. So
 * it is kept only where somebody may ask: see `demandContext`. A handler finds its request without one
 * (method-wrapper.ts).
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
  /** The frame around it, if a handler is called from within another one's context; told when it is entered. */
  outer: Frame | undefined;
}

export type FrameFacts = Omit<Frame, 'outer' | 'inStep'>;

/** What all copies share. */
interface Keeping {
  readonly storage: AsyncLocalStorage<Frame>;
  /** Somebody may ask, or has: from then on it is kept for good. */
  isDemanded: boolean;
  /** For how many more frames it is kept without a demand. */
  probation: number;
  /** Frames that are entered and not left yet: with a context, and without one. */
  inside: number;
  outside: number;
}

const SLOT = Symbol.for('nestjs-idempotency-pg.frames.v2');

/** Node 24 keeps contexts without watching promises: https://nodejs.org/en/blog/release/v24.0.0 */
const IS_CHEAP = Number(process.versions.node.split('.', 1)[0]) >= 24;

/** Whoever asks by a way that nobody can see beforehand, such as `app.get()`, has mostly done so by then. */
const PROBATION = 1000;

function keeping(): Keeping {
  const shared = globalThis as { [SLOT]?: Keeping };
  return (shared[SLOT] ??= {
    storage: new AsyncLocalStorage<Frame>(),
    isDemanded: IS_CHEAP,
    probation: PROBATION,
    inside: 0,
    outside: 0,
  });
}

/** Keeps the context for every request from now on: something may ask what it is part of. */
export function demandContext(): void {
  keeping().isDemanded = true;
}

/** A request that a route of ours was asked by, and an execution, know their frame. */
const FRAME = Symbol.for('nestjs-idempotency-pg.frame.v2');

interface Framed {
  [FRAME]?: Frame | undefined;
}

/** The time from a handler's call until whatever was called has ended. */
export interface Stay {
  /** Runs `work`, with what it is to work on, where it can find its execution. */
  run<T, R>(work: (on: T) => R, on: T): R;
  leave(): void;
}

/** Lets the handler of `request` find its execution, and what is below it too where somebody may ask. */
export function enter(request: object, { instance, execution, handlerToken, run }: FrameFacts): Stay {
  const frame: Frame = { instance, execution, handlerToken, run, inStep: false, outer: undefined };
  tie(execution, frame);
  return enterFrame(request, frame);
}

/** The same for a frame that is there already, and makes its execution, and ties it to itself, only when that is asked for. */
export function enterFrame(request: object, frame: Frame): Stay {
  const all = keeping();
  frame.outer = (request as Framed)[FRAME] ?? all.storage.getStore();
  (request as Framed)[FRAME] = frame;
  if (!all.isDemanded && all.probation === 0) return new StayOutside(all);
  if (!all.isDemanded) all.probation -= 1;
  return new StayInside(all, frame);
}

/** Lets `execution` find its frame where there is no context. */
export function tie(execution: IdempotentExecution, frame: Frame): void {
  (execution as Framed)[FRAME] = frame;
}

/** Of a request that is none of ours to guard, though its handler is: the wrapper is handed it all the same, and must know it. */
export function enterUnguarded(request: object): void {
  if (!(FRAME in request)) (request as Framed)[FRAME] = undefined;
}

class StayInside implements Stay {
  constructor(
    private readonly all: Keeping,
    private readonly frame: Frame,
  ) {
    all.inside += 1;
  }

  run<T, R>(work: (on: T) => R, on: T): R {
    return this.all.storage.run(this.frame, work, on);
  }

  /** With the last one inside the context is switched off, which makes the process's promises cheap again. */
  leave(): void {
    const { all } = this;
    all.inside -= 1;
    if (all.inside === 0 && !all.isDemanded) all.storage.disable();
  }
}

class StayOutside implements Stay {
  constructor(private readonly all: Keeping) {
    all.outside += 1;
  }

  run<T, R>(work: (on: T) => R, on: T): R {
    return work(on);
  }

  leave(): void {
    this.all.outside -= 1;
  }
}

/** Runs `work` in a frame of its own, for whoever has asked already what is around it. */
export function withFrame<T>(facts: FrameFacts, work: () => T): T {
  const { storage } = keeping();
  const frame: Frame = { ...facts, inStep: false, outer: storage.getStore() };
  tie(facts.execution, frame);
  return storage.run(frame, work);
}

/** Runs a step's work: what it does elsewhere can't be rolled back, so it must not hang on what can. */
export function withinStep<T>(execution: IdempotentExecution, work: () => T): T {
  demandContext();
  const { storage } = keeping();
  const frame = storage.getStore() ?? (execution as Framed)[FRAME];
  if (frame === undefined) return work();
  const { instance, execution: around, handlerToken, run, outer } = frame;
  return storage.run({ instance, execution: around, handlerToken, run, outer, inStep: true }, work);
}

export function isInStep(): boolean {
  return keeping().storage.getStore()?.inStep ?? false;
}

/** @throws Error within a step's work */
export function refuseWithinStep(): void {
  if (isInStep()) {
    throw new Error(
      "The atomic transaction can't be used within a step's work: its result would be recorded even if the transaction is rolled back. Use it before or after the step.",
    );
  }
}

/**
 * The execution that `instance` is in the middle of.
 *
 * @throws Error when that can't be told, for the first who ask in a way that could not be foreseen
 */
export function currentExecution(instance: object): IdempotentExecution | undefined {
  demandContext();
  const execution = innermost((frame) => frame.instance === instance)?.execution;
  if (execution === undefined && keeping().outside > 0) {
    throw new Error(
      'Nobody could know that this code would ask which execution it is part of, so requests that are at work now have no context. ' +
        'Those that come from now on have one. Inject IdempotencyService where it is used, and they have it from the start.',
    );
  }
  return execution;
}

/** The execution of the handler that is being called for `request`, whichever module instance it belongs to. */
export function executionFor(request: object): IdempotentExecution | undefined {
  return (request as Framed)[FRAME]?.execution;
}

/** Whether `value` is a request on its way to a handler of ours. */
export function isEntered(value: unknown): value is object {
  return typeof value === 'object' && value !== null && FRAME in value;
}

/** The handler run that was prepared for the method with this token, if `request` is on its way to it. */
export function runOn(request: object, handlerToken: object): HandlerRun | undefined {
  const frame = (request as Framed)[FRAME];
  return frame === undefined ? runFor(handlerToken) : runWithin(frame, handlerToken);
}

/** The same for a method that is called without its request. */
export function runFor(handlerToken: object): HandlerRun | undefined {
  return runWithin(keeping().storage.getStore(), handlerToken);
}

/** On every request's way, so without a function that is made for it. */
function runWithin(from: Frame | undefined, handlerToken: object): HandlerRun | undefined {
  let frame = from;
  while (frame !== undefined && frame.handlerToken !== handlerToken) frame = frame.outer;
  return frame?.run;
}

/** Whether the caller is called from where `run` follows its handler, as far as that is known. */
export function isWithinRun(run: HandlerRun): boolean {
  return innermost((frame) => frame.run === run) !== undefined;
}

function innermost(fits: (frame: Frame) => boolean): Frame | undefined {
  let frame = keeping().storage.getStore();
  while (frame !== undefined && !fits(frame)) frame = frame.outer;
  return frame;
}
