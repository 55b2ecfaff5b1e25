/** The execution as a handler sees it: the facts, the transaction's doors, and its phases. */
import type { EntityManager } from 'typeorm';
import type { IdempotentExecution, StepCall } from '../contract/execution.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { RecordTransaction, TransactionClient } from '../contract/transaction.js';
import type { OwnedExecution } from '../engine/execution.js';
import { Steps } from '../recipes/steps.js';
import { refuseWithinStep, withinStep } from './context.js';

export interface Host {
  readonly execution: OwnedExecution;
  readonly transaction: RecordTransaction;
}

export class HandlerExecution implements IdempotentExecution {
  #source: OwnedExecution | (() => OwnedExecution);
  #steps: Steps | undefined;

  /**
   * @param key the client's, where it came with one: an unprotected execution may have one all the same
   * @param surrounding the execution in whose transaction a `run` takes part
   */
  constructor(
    source: OwnedExecution | (() => OwnedExecution),
    private readonly store: IdempotencyStore,
    readonly key: string | undefined,
    private readonly surrounding?: Host,
  ) {
    this.#source = source;
  }

  /** Made when it is first asked for: most requests without a key need none. */
  private get execution(): OwnedExecution {
    if (typeof this.#source === 'function') this.#source = this.#source();
    return this.#source;
  }

  get scope(): string {
    return this.execution.identity.scope;
  }

  get attempt(): number {
    return this.execution.attempt;
  }

  get signal(): AbortSignal {
    return this.execution.signal;
  }

  get manager(): EntityManager {
    const { manager } = this.#transaction();
    if (manager === undefined)
      throw new Error(
        'The module was given a pg pool, so there is no EntityManager. Use execution.client, or give it a TypeORM DataSource.',
      );
    refuseWithinStep();
    return manager as EntityManager;
  }

  get client(): TransactionClient {
    refuseWithinStep();
    return this.#transaction().client;
  }

  // Functions rather than methods, since handlers take the execution apart, as in ({ step, keyFor });
  // and made when they are asked for, since most handlers never do.
  get keyFor(): (name: string) => string {
    return (name) => this.execution.keyFor(name);
  }

  get step(): <T>(name: string, work: (call: StepCall) => T | Promise<T>) => Promise<T> {
    return (name, work) => this.#phases().step(name, work);
  }

  get transaction(): <T>(name: string, work: (manager: EntityManager) => T | Promise<T>) => Promise<T> {
    return (name, work) => this.#phases().transaction(name, (manager) => work(manager as EntityManager));
  }

  #phases(): Steps {
    this.#steps ??= new Steps({
      store: this.store,
      execution: this.execution,
      partOf: () => this.partOf?.transaction,
      apart: (work) => withinStep(this, work),
      guard: refuseWithinStep,
    });
    return this.#steps;
  }

  /** The transaction it is part of, if there is one, and whose that is. */
  get partOf(): Host | undefined {
    const execution = this.execution;
    return execution.transaction === undefined ? this.surrounding : { execution, transaction: execution.transaction };
  }

  #transaction(): RecordTransaction {
    const transaction = this.partOf?.transaction;
    if (transaction !== undefined) return transaction;
    throw new Error(
      'execution.manager and execution.client belong to atomic mode: @Idempotent({ atomic: true }). Otherwise use your own repositories.',
    );
  }
}
