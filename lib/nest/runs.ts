/**
 * Idempotent executions without HTTP: messages, jobs, e-mails. The same engine, with a JSON value for
 * an answer.
 */
import type { KeyObject } from 'node:crypto';
import { KeyInvalid, StepInvalid, TransactionFailed } from '../contract/errors.js';
import type { IdempotentExecution } from '../contract/execution.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { IdempotencyStore } from '../contract/store.js';
import { isTransient, probe } from '../engine/atomic.js';
import type { Engine } from '../engine/engine.js';
import type { Ending } from '../engine/verdict.js';
import type { OwnedExecution } from '../engine/execution.js';
import { fingerprintOf } from '../engine/fingerprint.js';
import { checkKey, identify } from '../engine/key.js';
import { currentExecution, isInStep, withFrame } from './context.js';
import { Faults } from './faults.js';
import { HandlerExecution } from './handler-execution.js';
import type { Host } from './handler-execution.js';
import type { IdempotentOptions } from './options.js';
import { resolveRoute } from './resolve-options.js';
import type { ResolvedOptions, ResolvedRoute } from './resolve-options.js';

/** The route options that make sense without a route. */
export type RunSettings = Pick<
  IdempotentOptions,
  'ttl' | 'lockTtl' | 'onDuplicate' | 'waitTimeout' | 'onLostExecution' | 'atomic' | 'durableClaim' | 'storeTimeout' | 'onStoreFailure'
>;

/** Their names; the compiler sees to it that none is forgotten. */
const RUN_SETTINGS: Readonly<Record<keyof RunSettings, true>> = {
  ttl: true,
  lockTtl: true,
  onDuplicate: true,
  waitTimeout: true,
  onLostExecution: true,
  atomic: true,
  durableClaim: true,
  storeTimeout: true,
  onStoreFailure: true,
};

export interface RunOptions extends RunSettings {
  /** The space of keys, such as `'welcome-mail'`; not empty. */
  readonly operation: string;
  /** What it is about, such as an order's id or a message's; 1 to 255 characters. */
  readonly key: string;
  /** Whose. Default: `''`, everybody's. */
  readonly scope?: string;
  /** What a repetition must agree in. Plain data. Default: the key alone. */
  readonly input?: unknown;
}

export interface RunResult<T> {
  /** The value's JSON read back, the first time too. */
  readonly value: T;
  /** Whether it is what an earlier execution gave. */
  readonly replayed: boolean;
}

type Work<T> = (execution: IdempotentExecution) => T | Promise<T>;

/** More combinations of settings than this are no settings any more, but data. */
const MOST_SETTINGS = 200;

const JSON_HEADERS = [['content-type', 'application/json']] as const;

export class Runs {
  readonly #resolved = new Map<string, ResolvedRoute>();

  constructor(
    private readonly engine: Engine,
    private readonly store: IdempotencyStore,
    private readonly options: ResolvedOptions,
    private readonly instance: object,
  ) {}

  async run<T>(options: RunOptions, work: Work<T>): Promise<RunResult<T>> {
    const { operation, key, scope = '', input } = options;
    checkTexts(options);
    const host = this.#host();
    const settings = host === undefined ? this.settingsOf(options) : { ...this.settingsOf(options), atomic: undefined };
    checkKey(key, () => true);
    const identity = identify(scope, operation, key);
    const fingerprint = fingerprintFor(key, input, this.options.fingerprintSecret);
    const verdict = await this.engine.begin({ identity, fingerprint, settings, handler: `run ${operation}`, waitMs: settings.waitMs });
    switch (verdict.kind) {
      case 'run':
        return this.#execute(verdict.execution, host, work);
      case 'replay':
        return { value: valueOf<T>(verdict.answer), replayed: true };
      case 'refuse':
        throw verdict.error;
      case 'bypass': {
        const execution = new HandlerExecution(
          this.engine.unkeyed(settings, `run ${operation}`, { identity, fingerprint }),
          this.store,
          key,
        );
        return { value: valueOf<T>(answerOf(await this.#within(execution, work))), replayed: false };
      }
    }
  }

  /** Checked once for each combination: the checks are made for boot, not for every message. */
  settingsOf({ operation, key: _key, scope: _scope, input: _input, ...settings }: RunOptions): ResolvedRoute {
    const id = JSON.stringify([operation, settings]);
    const known = this.#resolved.get(id);
    if (known !== undefined) return known;
    const faults = new Faults();
    noteFaults(operation, settings, faults);
    const ours = Object.entries(settings).filter(([option]) => isRunSetting(option));
    const written = { ...Object.fromEntries(ours), operation };
    const route = resolveRoute(
      this.options,
      {
        controller: 'IdempotencyService',
        method: 'run',
        classOptions: undefined,
        handlerOptions: written,
        onStoreIfFailure: () => undefined,
      },
      faults,
    );
    faults.throwIfAny();
    const resolved = { ...route, maxLiveKeys: undefined }; // that limits clients, who make as many keys as they like
    if (this.#resolved.size >= MOST_SETTINGS) this.#resolved.clear();
    this.#resolved.set(id, resolved);
    return resolved;
  }

  async #execute<T>(execution: OwnedExecution, host: Host | undefined, work: Work<T>): Promise<RunResult<T>> {
    let answer: RecordedResponse;
    try {
      answer = answerOf(await this.#work(execution, host, work));
    } catch (error) {
      await this.engine.settle(execution, { kind: 'free' });
      throw isTransient(error) && execution.transaction !== undefined ? new TransactionFailed(true, { cause: error }) : error;
    }
    const kept = answer.body.length <= execution.settings.maxBodyBytes;
    const ending: Ending = kept ? { kind: 'keep', answer, undo: false } : { kind: 'seal', undo: false };
    const settlement =
      host === undefined ? await this.engine.settle(execution, ending) : await this.engine.settleWithin(host.execution, execution, ending);
    switch (settlement.kind) {
      case 'send':
        return { value: valueOf<T>(answer), replayed: false };
      case 'replay':
        return { value: valueOf<T>(settlement.answer), replayed: true };
      case 'refuse':
        throw settlement.error;
    }
  }

  /** Inside an atomic execution it is a part of that one's transaction, which can be undone by itself. */
  async #work<T>(execution: OwnedExecution, host: Host | undefined, work: Work<T>): Promise<T> {
    if (host !== undefined) {
      const part = new HandlerExecution(execution, this.store, execution.identity.key, host);
      return host.transaction.savepoint(async () => this.#within(part, work));
    }
    for (let repeats = execution.settings.atomic?.retries ?? 0; ; repeats -= 1) {
      try {
        const value = await this.#within(new HandlerExecution(execution, this.store, execution.identity.key), work);
        if (repeats > 0 && execution.transaction !== undefined) await probe(execution.transaction);
        return value;
      } catch (error) {
        if (repeats <= 0 || !isTransient(error) || !(await this.engine.restart(execution))) throw error;
      }
    }
  }

  async #within<T>(execution: HandlerExecution, work: Work<T>): Promise<T> {
    return withFrame({ instance: this.instance, execution, handlerToken: execution, run: undefined }, () => work(execution));
  }

  /** The atomic execution in the middle of which it is called. A step's work is apart from it. */
  #host(): Host | undefined {
    const around = currentExecution(this.instance);
    return around instanceof HandlerExecution && !isInStep() ? around.partOf : undefined;
  }
}

function isRunSetting(option: string): boolean {
  return Object.hasOwn(RUN_SETTINGS, option);
}

/** What the options of a route are not checked for. */
function noteFaults(operation: unknown, settings: object, faults: Faults): void {
  const where = 'IdempotencyService.run';
  if (operation === undefined || operation === null) {
    faults.add({ option: 'operation', where, fault: 'is missing', remedy: "Name the space of keys, such as 'welcome-mail'." });
  }
  for (const option of Object.keys(settings)) {
    if (isRunSetting(option)) continue;
    const remedy = `Look at its spelling; beside operation, key, scope and input there are: ${Object.keys(RUN_SETTINGS).join(', ')}.`;
    faults.add({ option, where, fault: 'is no option of run()', remedy });
  }
}

/** Not every caller has a compiler that sees to it: an order's number is easily taken for a text. */
function checkTexts({ key, scope = '' }: RunOptions): void {
  if (typeof key !== 'string') throw new KeyInvalid('is no text');
  if (typeof scope !== 'string') throw new TypeError('The scope of a run must be a text.');
}

function fingerprintFor(key: string, input: unknown, secret: KeyObject | undefined): Buffer {
  return fingerprintOf(input === undefined ? { of: 'key', key } : { of: 'choice-alone', value: input }, secret);
}

function answerOf(value: unknown): RecordedResponse {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    throw new StepInvalid("What run()'s work returned can't be written as JSON. Return plain data.", { cause });
  }
  if (text === undefined && value !== undefined)
    throw new StepInvalid(`What run()'s work returned is a ${typeof value}, which is no JSON. Return plain data.`);
  return { status: 200, headers: JSON_HEADERS, body: Buffer.from(text ?? '') };
}

function valueOf<T>({ body }: RecordedResponse): T {
  return (body.length === 0 ? undefined : JSON.parse(body.toString())) as T;
}
