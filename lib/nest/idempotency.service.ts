/** The module's face for code: what is running here, and what an operator may want to know or do. */
import { Inject, Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { IdempotentExecution } from '../contract/execution.js';
import { AnswerStands, KeyInUse } from '../contract/errors.js';
import type { Identity, RecordRef, RecordSummary, StoreStats } from '../contract/record.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { Engine } from '../engine/engine.js';
import { identify } from '../engine/key.js';
import { currentExecution } from './context.js';
import { HandlerExecution } from './handler-execution.js';
import { recordedAnswer } from './manual-answer.js';
import type { ManualAnswer } from './manual-answer.js';
import type { ApplicationDatabase } from './module-store.js';
import type { ResolvedOptions } from './resolve-options.js';
import type { RunOptions, RunResult, Runs } from './runs.js';
import { APPLICATION, ENGINE, MODULE_INSTANCE, RESOLVED_OPTIONS, RUNS, STORE } from './tokens.js';

/** Rows read in one statement: a bite that holds no vacuum or replica back. */
const BITE = 1000;

/** A handler that runs now has mostly ended a second later. */
const ASK_AGAIN_MS = 1000;

/** What a person decides about a record whose execution can't say it any more. */
export type Resolution = 'free' | { readonly answer: ManualAnswer };

export type { ManualAnswer };

@Injectable()
export class IdempotencyService {
  constructor(
    @Inject(STORE) private readonly store: IdempotencyStore,
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(APPLICATION) private readonly application: ApplicationDatabase,
    @Inject(RUNS) private readonly runs: Runs,
    @Inject(MODULE_INSTANCE) private readonly instance: object,
  ) {}

  /**
   * Runs `work` once for a key, for messages, jobs and e-mails: the first call runs it, every later one
   * gets its value. A throw frees the key. Inside an atomic execution its end commits with that one's
   * transaction, and its rows can use `execution.manager`.
   *
   * @throws KeyInUse, KeyReused, OutcomeUnknown, ResultNotReplayable, StoreUnavailable, and what `work` throws
   */
  run<T>(options: RunOptions, work: (execution: IdempotentExecution) => T | Promise<T>): Promise<RunResult<T>> {
    return this.runs.run(options, work);
  }

  /**
   * The `EntityManager` to use right now: the atomic transaction's within one, the DataSource's own
   * elsewhere. Read it where you use it.
   */
  get manager(): EntityManager {
    const execution = currentExecution(this.instance);
    if (execution instanceof HandlerExecution && execution.partOf !== undefined) return execution.manager;
    if (this.application.dataSource !== undefined) return this.application.dataSource.manager;
    throw new Error('The module has no TypeORM DataSource, so there is no EntityManager. Give it one.');
  }

  /** The execution this code is part of, anywhere below an `@Idempotent()` handler of this application. */
  current(): IdempotentExecution | undefined {
    return currentExecution(this.instance);
  }

  /**
   * Looks a record up; expired ones count as none.
   *
   * @throws StoreUnavailable
   */
  find(ref: RecordRef): Promise<RecordSummary | undefined> {
    return this.store.find(identityOf(ref));
  }

  /**
   * Removes a record, so that its key is free again. A lost one is not live and may be removed. Another
   * process may replay an answer for up to a second more that is asked for all the time.
   *
   * @returns whether there was one
   * @throws KeyInUse when its execution is running, StoreUnavailable
   */
  async forget(ref: RecordRef): Promise<boolean> {
    const identity = identityOf(ref);
    const outcome = await this.store.forget(identity).finally(() => this.#lookAfreshAt(identity));
    if (outcome === 'live') throw new KeyInUse(ASK_AGAIN_MS);
    return outcome === 'removed';
  }

  /**
   * Settles a lost, open or sealed record by hand: `'free'` lets the next request run again, an answer
   * is what every later request gets.
   *
   * @returns whether there was one
   * @throws KeyInUse when its execution is running, AnswerStands when it has an answer, StoreUnavailable
   */
  async resolve(ref: RecordRef, resolution: Resolution): Promise<boolean> {
    const answer = resolution === 'free' ? undefined : recordedAnswer(resolution.answer);
    const identity = identityOf(ref);
    const resolving = this.store.resolve(identity, answer, this.options.defaultRetentionMs);
    const outcome = await resolving.finally(() => this.#lookAfreshAt(identity));
    if (outcome === 'live') throw new KeyInUse(ASK_AGAIN_MS);
    if (outcome === 'completed') throw new AnswerStands();
    return outcome === 'resolved';
  }

  /**
   * Removes all records of a scope but those whose execution is running, in bites: the whole table is
   * read, but never in one statement. Meant for a caller's right to be forgotten.
   *
   * @returns how many went
   * @throws StoreUnavailable
   */
  forgetScope(scope: string): Promise<number> {
    return this.store.forgetScope(scope, BITE).finally(() => this.engine.lookAfresh((identity) => identity.scope === scope));
  }

  /**
   * Counts the records by state. Reads the whole table: for a dashboard every minute, not for every request.
   *
   * @throws StoreUnavailable
   */
  stats(): Promise<StoreStats> {
    return this.store.stats();
  }

  /**
   * Removes expired records until none is left, as the reaper does: for applications that run it
   * elsewhere (`reaper: false`).
   *
   * @returns how many went
   * @throws StoreUnavailable
   */
  async reap(): Promise<number> {
    let removed = 0;
    for (let bite = BITE; bite === BITE; removed += bite) bite = await this.store.reap(BITE);
    return removed;
  }

  #lookAfreshAt({ id }: Identity): void {
    this.engine.lookAfresh((identity) => identity.id === id);
  }
}

function identityOf({ scope, operation = '', key }: RecordRef): ReturnType<typeof identify> {
  return identify(scope, operation, key);
}
