/**
 * Phases of an execution that are run until one result is recorded, and never after: a foreign call
 * (`step`), or rows that commit together with their result (`transaction`). A retry of an execution
 * that was cut short finds the results of its finished phases and goes on behind them.
 */
import { ExecutionSuperseded, StepInvalid, StoreUnavailable } from '../contract/errors.js';
import type { StepCall } from '../contract/execution.js';
import type { RecordedStep } from '../contract/record.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { RecordTransaction } from '../contract/transaction.js';
import { failureOf } from '../engine/atomic.js';
import type { OwnedExecution } from '../engine/execution.js';

/** A name is part of an index entry, and is read by people. */
const MAX_NAME_CHARACTERS = 200;

/** Results are read back as a whole by every retry: a reference is a result, a document is not. */
const MAX_RESULT_BYTES = 1024 * 1024;

export interface StepSurroundings {
  readonly store: IdempotencyStore;
  readonly execution: OwnedExecution;
  /** The atomic transaction around it, if there is one: another one for each run of the handler. */
  readonly partOf: () => RecordTransaction | undefined;
  /** Runs foreign work where the atomic transaction can't be used: its outcome must not depend on a rollback. */
  readonly apart: <T>(work: () => T) => T;
  readonly guard: () => void;
}

export class Steps {
  readonly #used = new Set<string>();
  /** Which of the handler's runs has used them. */
  #run = 1;
  #recorded: Promise<ReadonlyMap<string, Buffer>> | undefined;
  #flushed: Promise<boolean> | undefined;

  constructor(private readonly around: StepSurroundings) {}

  async step<T>(name: string, work: (call: StepCall) => T | Promise<T>): Promise<T> {
    this.#use(name);
    const { execution, apart } = this.around;
    const recorded = await this.#find(name);
    if (recorded !== undefined) return fromJson<T>(recorded);
    await this.#makeClaimDurable();
    const result = toJson(name, await apart(() => work({ key: execution.keyFor(name) })));
    if (execution.keyed) await execution.recording(() => this.#record({ name, result }));
    return fromJson<T>(result);
  }

  /** @param work is handed the transaction's manager, whatever that is where the application lives */
  async transaction<T>(name: string, work: (manager: unknown) => T | Promise<T>): Promise<T> {
    this.#use(name);
    const transaction = this.around.partOf();
    if (transaction !== undefined) {
      return transaction.savepoint(async () => fromJson<T>(toJson(name, await work(managerOf(transaction)))));
    }
    const recorded = await this.#find(name);
    if (recorded !== undefined) return fromJson<T>(recorded);
    return fromJson<T>(await this.#commitPhase(name, work));
  }

  async #commitPhase<T>(name: string, work: (manager: unknown) => T | Promise<T>): Promise<Buffer> {
    const { execution, store, guard } = this.around;
    const { leaseMs, storeTimeoutMs } = execution.settings;
    const phase = await store.transaction(execution.ownership, {
      isolation: undefined,
      idleMs: leaseMs,
      connectMs: storeTimeoutMs,
      guard,
      holdsRecord: false,
    });
    if (phase === undefined) throw new ExecutionSuperseded();
    try {
      const result = toJson(name, await work(managerOf(phase)));
      await execution.recording(() => this.#commit(phase, { name, result }));
      return result;
    } catch (error) {
      await phase.rollBack(); // there is nothing left of one whose COMMIT has failed
      throw error;
    }
  }

  async #commit(phase: RecordTransaction, step: RecordedStep): Promise<void> {
    const { keyed, ownership } = this.around.execution;
    if (keyed && !(await phase.recordStep(ownership, step))) throw new ExecutionSuperseded();
    const end = await phase.commit();
    if (end.kind === 'refused') throw failureOf(end.cause, end.transient);
    if (end.kind === 'unknown') await this.#findOut(step.name, end.cause);
  }

  async #record(step: RecordedStep): Promise<void> {
    const { store, execution } = this.around;
    if (!(await store.recordStep(execution.ownership, step, execution.settings.storeTimeoutMs))) throw new ExecutionSuperseded();
  }

  /** A backend may still be committing the phase. Where nobody can tell, the key stays taken until its lease is over. */
  async #findOut(name: string, cause: unknown): Promise<void> {
    const { execution, store } = this.around;
    const outcome = execution.keyed
      ? await store.outcomeOf(execution.ownership, execution.settings.storeTimeoutMs, name).catch(() => undefined)
      : undefined;
    if (outcome === 'committed') return;
    if (outcome === undefined) execution.inDoubt = true;
    throw new StoreUnavailable({ cause });
  }

  /** One execution runs its phases by name; the same name again would get the other one's result. */
  #use(name: string): void {
    if (name === '' || name.length > MAX_NAME_CHARACTERS || /\p{Cc}|\p{Cs}/u.test(name)) {
      throw new StepInvalid(`A step's name has 1 to ${MAX_NAME_CHARACTERS} characters and no control characters.`);
    }
    if (this.around.execution.isLost) throw new ExecutionSuperseded();
    this.#noticeRepetition();
    if (this.#used.has(name))
      throw new StepInvalid(`The step "${name}" is used twice in one execution. Give each its own name, such as "${name}-2".`);
    this.#used.add(name);
  }

  /** A handler that is repeated goes through its phases again, and finds what it has recorded so far. */
  #noticeRepetition(): void {
    const { runs } = this.around.execution;
    if (runs === this.#run) return;
    this.#run = runs;
    this.#used.clear();
    this.#recorded = undefined;
  }

  /** Only an execution that was taken over, or a handler that is repeated, can have any. */
  async #find(name: string): Promise<Buffer | undefined> {
    const { execution } = this.around;
    if (!execution.keyed || (execution.attempt === 1 && execution.runs === 1)) return undefined;
    this.#recorded ??= this.#read();
    return (await this.#recorded).get(name);
  }

  async #read(): Promise<ReadonlyMap<string, Buffer>> {
    const { store, execution } = this.around;
    const steps = await store.steps(execution.ownership, execution.settings.storeTimeoutMs);
    return new Map(steps.map(({ name, result }) => [name, result]));
  }

  /** What another system is told must not be forgotten by a crash of Postgres: a claim that has not waited for the disk does so now. */
  async #makeClaimDurable(): Promise<void> {
    const { execution, store } = this.around;
    if (execution.claim.durable || !execution.keyed) return;
    this.#flushed ??= store.flush(execution.ownership, execution.settings.storeTimeoutMs);
    if (!(await this.#flushed)) throw new ExecutionSuperseded();
  }
}

function managerOf({ manager }: RecordTransaction): unknown {
  if (manager !== undefined) return manager;
  throw new StepInvalid(
    'execution.transaction() hands out an EntityManager, and the module was given a pg pool. Give it a TypeORM DataSource, or use atomic mode with execution.client.',
  );
}

function toJson(name: string, value: unknown): Buffer {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    throw new StepInvalid(`The result of the step "${name}" can't be written as JSON. Return plain data.`, { cause });
  }
  if (text === undefined && value !== undefined)
    throw new StepInvalid(`The result of the step "${name}" is a ${typeof value}, which is no JSON. Return plain data.`);
  const json = Buffer.from(text ?? '');
  if (json.length > MAX_RESULT_BYTES)
    throw new StepInvalid(
      `The result of the step "${name}" has ${json.length} bytes, and ${MAX_RESULT_BYTES} are kept at most. Return a reference to it.`,
    );
  return json;
}

function fromJson<T>(json: Buffer): T {
  return (json.length === 0 ? undefined : JSON.parse(json.toString())) as T;
}
