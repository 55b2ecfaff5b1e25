/**
 * The one screen that tells the story: a request *begins*, gets a *verdict*, and what ran is
 * *settled*.
 *
 * An answer leaves only after its record is safe, and a key that has an answer keeps it until its
 * retention ends. The engine decides by what the store tells it, and refuses to know how a request
 * looks, who renders answers, and what a database is.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { Identity } from '../contract/record.js';
import type { AtomicSettings, ExecutionSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import { claimOf } from './admission.js';
import type { Admission } from './admission.js';
import { AtomicTransactions } from './atomic.js';
import { AwaitedClaims } from './awaited-claims.js';
import { Claims } from './claims.js';
import { EndOfTurn } from './end-of-turn.js';
import { OwnedExecution } from './execution.js';
import { identify } from './key.js';
import { LeaseKeeper } from './lease-keeper.js';
import { Looks } from './looks.js';
import { Observer } from './observer.js';
import type { Subject } from './observer.js';
import { Persistence } from './persistence.js';
import { ReplayMemory } from './replay-memory.js';
import { Roster } from './roster.js';
import { Settlements } from './settlement.js';
import type { Ending, News, Refusal, Settlement, Verdict } from './verdict.js';
import { WaitingRooms } from './waiting.js';

export type { Admission };

export interface EngineSettings {
  /** How many requests may wait for answers in the making, all keys together. */
  readonly maxWaiters: number;
  /** Called before each use of an atomic transaction; throws to refuse it. */
  readonly transactionGuard: () => void;
}

export class Engine {
  /** This process's executions, until they are settled. */
  readonly #roster: Roster;
  readonly #leases: LeaseKeeper;
  readonly #persistence: Persistence;
  readonly #atomic: AtomicTransactions;
  readonly #waiting: WaitingRooms<News>;
  readonly #observer: Observer;
  readonly #memory: ReplayMemory;
  readonly #looks: Looks;
  readonly #awaited: AwaitedClaims;
  readonly #settlements: Settlements;
  readonly #turn = new EndOfTurn();
  #draining = false;

  constructor(
    store: IdempotencyStore,
    private readonly clock: Clock,
    events: EventSink,
    { maxWaiters, transactionGuard }: EngineSettings,
  ) {
    this.#roster = new Roster(clock);
    this.#observer = new Observer(events, clock);
    this.#persistence = new Persistence(store, clock);
    this.#atomic = new AtomicTransactions(store, clock, transactionGuard);
    this.#waiting = new WaitingRooms(clock, maxWaiters, (id) => this.#roster.has(id), store);
    this.#leases = new LeaseKeeper(
      store,
      clock,
      (execution) => this.#settlements.superseded(execution),
      (cause) => this.#observer.renewalFailed(cause),
    );
    const parts = {
      turn: this.#turn,
      roster: this.#roster,
      leases: this.#leases,
      persistence: this.#persistence,
      atomic: this.#atomic,
      waiting: this.#waiting,
      observer: this.#observer,
    };
    const isDraining = (): boolean => this.#draining;
    this.#settlements = new Settlements(parts);
    this.#memory = new ReplayMemory(clock);
    const claims = new Claims({ ...parts, store, clock, settlements: this.#settlements, isDraining });
    this.#looks = new Looks({ ...parts, claims, clock, memory: this.#memory, isDraining });
    this.#awaited = new AwaitedClaims(this.#looks, this.#waiting, this.#observer);
  }

  begin(admission: Admission): Promise<Verdict> {
    if (this.#draining) return Promise.resolve(this.#refuse(admission, new StoreUnavailable()));
    const startedAt = this.clock.now();
    const remembered = this.#looks.remembered(admission);
    if (remembered !== undefined) return this.#turn.tell(this.#observed(admission, remembered, startedAt));
    this.#roster.begins();
    return (admission.waitMs === 0 ? this.#looks.ask(admission) : this.#awaited.claimOrWait(admission)).then(
      (verdict) => {
        this.#roster.hasBegun();
        return this.#observed(admission, verdict, startedAt);
      },
      (error: unknown) => {
        this.#roster.hasBegun();
        throw error;
      },
    );
  }

  #observed(admission: Admission, verdict: Verdict, startedAt: number): Verdict {
    if (verdict.kind === 'refuse') this.#observer.rejected(admission, verdict.error);
    if (verdict.kind === 'replay') this.#observer.replayed(admission, startedAt);
    return verdict;
  }

  /**
   * An execution that owns no key, so that nothing is recorded of it.
   *
   * @param asked of one that could have owned a key all the same: its derived keys stay the same
   */
  unkeyed(settings: ExecutionSettings, handler: string, asked: Pick<Admission, 'identity' | 'fingerprint'> = nobodys()): OwnedExecution {
    const claim = claimOf({ identity: asked.identity, fingerprint: asked.fingerprint, settings }, randomUUID());
    return new OwnedExecution({ claim, keyed: false, attempt: 1, settings, handler, startedAt: this.clock.now() });
  }

  /**
   * The same with a transaction, as atomic handlers expect it. To be settled like any other.
   *
   * @throws StoreUnavailable
   */
  async beginUnkeyed(settings: ExecutionSettings, atomic: AtomicSettings, handler: string): Promise<OwnedExecution> {
    if (this.#draining) throw new StoreUnavailable();
    const execution = this.unkeyed(settings, handler);
    this.#roster.begins();
    try {
      execution.transaction = await this.#atomic.open(execution, atomic);
    } finally {
      this.#roster.hasBegun();
    }
    this.#roster.add(execution);
    return execution;
  }

  /** Ends an execution. Once this resolves, what it says may leave; it never rejects. */
  settle(execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    return this.#settlements.settle(execution, ending);
  }

  /**
   * Ends an execution within the transaction of another one, its host: its end is written there, and
   * comes through or vanishes with the rest.
   *
   * @throws TransactionFailed, StoreUnavailable
   */
  settleWithin(host: OwnedExecution, execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    return this.#settlements.settleWithin(host, execution, ending);
  }

  /**
   * Begins the transaction of an atomic execution anew, for a handler that is to be repeated.
   * `false`: the claim is lost meanwhile.
   *
   * @throws StoreUnavailable
   */
  restart(execution: OwnedExecution): Promise<boolean> {
    return this.#settlements.restart(execution);
  }

  /**
   * From now on nobody begins. Resolves once all claims are answered and all executions are settled,
   * or after `withinMs`; whatever has not begun by then never will, and leaves no claim behind.
   */
  async drain(withinMs: number): Promise<void> {
    this.#draining = true;
    this.#waiting.close();
    await this.#roster.idle(withinMs);
    await this.#roster.callOff();
    await this.#turn.tell(undefined); // what has just been settled is then on its way to its client
  }

  /**
   * Records were removed or settled by hand: nothing that was read of them before is said any more.
   *
   * @param concerns which ones
   */
  lookAfresh(concerns: (identity: Identity) => boolean): void {
    this.#looks.lookAfresh(concerns);
  }

  /** Stops every timer and background write. What still runs becomes lost when its lease ends. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#waiting.close();
    this.#memory.close();
    await Promise.all([this.#leases.stop(), this.#persistence.stop(), this.#atomic.close()]);
  }

  #refuse(subject: Subject, error: IdempotencyError): Refusal {
    this.#observer.rejected(subject, error);
    return { kind: 'refuse', error };
  }
}

function nobodys(): Pick<Admission, 'identity' | 'fingerprint'> {
  return { identity: identify('', '', randomUUID()), fingerprint: Buffer.alloc(0) };
}
