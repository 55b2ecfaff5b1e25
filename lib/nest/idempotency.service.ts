/** The module's face for code: what is running here, and what an operator may want to know or do. */
import { Inject, Injectable } from '@nestjs/common';
import type { IdempotentExecution } from '../contract/execution.js';
import { KeyInUse } from '../contract/errors.js';
import type { RecordRef, RecordSummary, StoreStats } from '../contract/record.js';
import type { IdempotencyStore } from '../contract/store.js';
import { identify } from '../engine/key.js';
import { currentExecution } from './context.js';
import { MODULE_INSTANCE, STORE } from './tokens.js';

/** Rows read in one statement: a bite that holds no vacuum or replica back. */
const BITE = 1000;

/** A handler that runs now has mostly ended a second later. */
const ASK_AGAIN_MS = 1000;

@Injectable()
export class IdempotencyService {
  constructor(
    @Inject(STORE) private readonly store: IdempotencyStore,
    @Inject(MODULE_INSTANCE) private readonly instance: object,
  ) {}

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
   * Removes a record, so that its key is free again. A lost one is not live and may be removed.
   *
   * @returns whether there was one
   * @throws KeyInUse when its execution is running, StoreUnavailable
   */
  async forget(ref: RecordRef): Promise<boolean> {
    const outcome = await this.store.forget(identityOf(ref));
    if (outcome === 'live') throw new KeyInUse(ASK_AGAIN_MS);
    return outcome === 'removed';
  }

  /**
   * Removes all records of a scope but those whose execution is running, in bites: the whole table is
   * read, but never in one statement. Meant for a caller's right to be forgotten.
   *
   * @returns how many went
   * @throws StoreUnavailable
   */
  forgetScope(scope: string): Promise<number> {
    return this.store.forgetScope(scope, BITE);
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
}

function identityOf({ scope, operation = '', key }: RecordRef): ReturnType<typeof identify> {
  return identify(scope, operation, key);
}
