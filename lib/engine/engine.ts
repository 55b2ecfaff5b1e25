/**
 * The one screen that tells the story: a request *begins*, gets a *verdict*, and what ran is
 * *settled*.
 *
 * An answer leaves only after its record is safe, and a key that has an answer keeps it until its
 * retention ends. The engine decides by what the store tells it, and refuses to know how a request
 * looks, who renders answers, and what a database is.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Clock } from '../contract/clock.js';
import { KeyReused, OutcomeUnknown, StoreUnavailable, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { Claim, FoundRecord, Identity } from '../contract/record.js';
import type { AtomicSettings, ExecutionSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import { AtomicTransactions, LEASE_BEFORE_BEGIN_MS } from './atomic.js';
import { OwnedExecution } from './execution.js';
import { identify } from './key.js';
import { LeaseKeeper } from './lease-keeper.js';
import { Observer } from './observer.js';
import type { Subject } from './observer.js';
import { Persistence } from './persistence.js';
import { done, inUse } from './refusals.js';
import { Roster } from './roster.js';
import { Settlements } from './settlement.js';
import { uuidText } from './uuid.js';
import type { Ending, Found, News, Refusal, Settlement, Verdict } from './verdict.js';
import { WaitingRooms } from './waiting.js';

/** A request at the door: whose it is, what it is, and the rules of its route. */
export interface Admission {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
  readonly settings: ExecutionSettings;
  /** `Controller.method`, for events and logs. */
  readonly handler: string;
  /** How long it would wait for the answer of an execution that is running; 0: not at all. */
  readonly waitMs: number;
  /** Aborted when the client has gone: it need not wait for an answer any more. */
  readonly signal?: AbortSignal;
}

export interface EngineSettings {
  /** How many requests may wait for answers in the making, all keys together. */
  readonly maxWaiters: number;
  /** Called before each use of an atomic transaction; throws to refuse it. */
  readonly transactionGuard: () => void;
}

/**
 * A claim is tried again when a lost record was taken from under our eyes. Each round means that
 * somebody else made progress, so more than a few in a row is a crowd, not a race.
 */
const CLAIM_ROUNDS = 3;

export class Engine {
  /** This process's executions, until they are settled. */
  readonly #roster: Roster;
  readonly #leases: LeaseKeeper;
  readonly #persistence: Persistence;
  readonly #atomic: AtomicTransactions;
  readonly #waiting: WaitingRooms<News>;
  /** By key, what those who would wait are asking the store for right now. */
  readonly #asking = new Map<string, Buffer>();
  readonly #observer: Observer;
  readonly #settlements: Settlements;
  #draining = false;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
    events: EventSink,
    { maxWaiters, transactionGuard }: EngineSettings,
  ) {
    this.#roster = new Roster(clock);
    this.#observer = new Observer(events, clock);
    this.#persistence = new Persistence(store, clock);
    this.#atomic = new AtomicTransactions(store, clock, transactionGuard);
    this.#waiting = new WaitingRooms(clock, maxWaiters, (id) => this.#roster.has(id));
    this.#leases = new LeaseKeeper(
      store,
      clock,
      (execution) => this.#settlements.superseded(execution),
      (cause) => this.#observer.renewalFailed(cause),
    );
    this.#settlements = new Settlements({
      roster: this.#roster,
      leases: this.#leases,
      persistence: this.#persistence,
      atomic: this.#atomic,
      waiting: this.#waiting,
      observer: this.#observer,
    });
  }

  async begin(admission: Admission): Promise<Verdict> {
    if (this.#draining) return this.#refuse(admission, new StoreUnavailable());
    const claim = claimOf(admission);
    const startedAt = this.clock.now();
    try {
      const verdict = await this.#roster.beginning(() => this.#claimOrWait(admission, claim, startedAt));
      if (verdict.kind === 'refuse') this.#observer.rejected(admission, verdict.error);
      if (verdict.kind === 'replay') this.#observer.replayed(admission, startedAt);
      return verdict;
    } catch (error) {
      if (!isIdempotencyError(error)) throw error;
      return this.#storeFailedAtClaim(admission, claim, error);
    }
  }

  /**
   * An execution that owns no key, so that nothing is recorded of it.
   *
   * @param asked of one that could have owned a key all the same: its derived keys stay the same
   */
  unkeyed(settings: ExecutionSettings, handler: string, asked: Pick<Admission, 'identity' | 'fingerprint'> = nobodys()): OwnedExecution {
    const claim = claimOf({ ...asked, settings });
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
    execution.transaction = await this.#roster.beginning(() => this.#atomic.open(execution, atomic));
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
    await new Promise(setImmediate); // what has just been settled is then on its way to its client
  }

  /** Stops every timer and background write. What still runs becomes lost when its lease ends. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#waiting.close();
    await Promise.all([this.#leases.stop(), this.#persistence.stop(), this.#atomic.close()]);
  }

  async #claimOrWait(admission: Admission, claim: Claim, startedAt: number): Promise<Verdict> {
    if (admission.waitMs === 0) return this.#claimOrLook(admission, claim, startedAt);
    if (this.#isInTheMaking(admission)) return this.#wait(admission, claim, inUse(admission.settings));
    const found = await this.#askForAll(admission, claim, startedAt);
    return isInUse(found) ? this.#wait(admission, claim, found) : found;
  }

  /** The same request is at work here, or asks for its key: what comes of that is for this one, too, and the store need not be asked. */
  #isInTheMaking({ identity, fingerprint }: Admission): boolean {
    const theirs = this.#roster.requestAtWork(identity.id) ?? this.#asking.get(identity.id);
    return theirs?.equals(fingerprint) ?? false;
  }

  /** Of many that come at once, one asks the store, and tells the others what it has found. */
  async #askForAll(admission: Admission, claim: Claim, startedAt: number): Promise<Verdict> {
    const { id } = admission.identity;
    const isFirst = !this.#asking.has(id);
    if (isFirst) this.#asking.set(id, admission.fingerprint);
    try {
      return this.#tellOthers(admission, await this.#claimOrLook(admission, claim, startedAt));
    } catch (error) {
      if (isIdempotencyError(error)) this.#tellOthers(admission, { kind: 'refuse', error });
      throw error;
    } finally {
      if (isFirst) this.#asking.delete(id);
    }
  }

  #tellOthers({ identity, fingerprint }: Admission, found: Verdict): Verdict {
    if (found.kind !== 'run' && found.kind !== 'bypass' && !isInUse(found)) this.#waiting.tell(identity.id, { fingerprint, found });
    return found;
  }

  async #claimOrLook(admission: Admission, claim: Claim, startedAt: number): Promise<Verdict> {
    const { storeTimeoutMs } = admission.settings;
    for (let round = 0; round < CLAIM_ROUNDS; round++) {
      const left = storeTimeoutMs - (this.clock.now() - startedAt);
      const result = await this.store.claim(claim, left);
      if (result.kind === 'claimed') return this.#own(admission, claim, result.attempt, startedAt, false);
      const verdict = this.#judge(admission, result.record);
      if (verdict !== 'take-over') return verdict;
      const taken = await this.store.takeOver(claim, result.record, storeTimeoutMs - (this.clock.now() - startedAt));
      if (taken.kind === 'taken') return this.#own(admission, inheriting(claim, result.record), taken.attempt, startedAt, true);
      if (taken.kind === 'held') break; // its transaction lives, whatever the lease says
    }
    return inUse(admission.settings);
  }

  /**
   * The fingerprint is compared before the state: another request is another request, however the first
   * one stands. In a window there is nothing to compare: the record was found by all that a request says.
   */
  #judge(admission: Admission, record: FoundRecord): Found | 'take-over' {
    const { settings, identity, fingerprint } = admission;
    if (settings.window === undefined && !record.fingerprint.equals(fingerprint)) return { kind: 'refuse', error: new KeyReused() };
    switch (record.state) {
      case 'completed':
        return settings.window?.answer === 'reject' ? done(settings, record) : { kind: 'replay', answer: record.answer };
      case 'sealed':
        return done(settings, record);
      case 'running':
        return inUse(settings, record);
      case 'lost':
        // The lease ran out while Postgres was away, but the handler is still at work right here.
        if (this.#roster.isOwner(identity.id, record.owner)) return inUse(settings, record);
        return settings.onLostExecution === 'reject' ? { kind: 'refuse', error: new OutcomeUnknown() } : 'take-over';
      case 'open':
        return 'take-over';
    }
  }

  async #own(admission: Admission, claim: Claim, attempt: number, startedAt: number, takenOver: boolean): Promise<Verdict> {
    const { settings, handler } = admission;
    if (this.#draining) return this.#giveBack(claim, settings, new StoreUnavailable());
    const execution = new OwnedExecution({ claim, keyed: true, attempt, settings, handler, startedAt });
    this.#supersede(this.#roster.add(execution));
    this.#leases.keep(execution, claim.leaseMs);
    if (settings.atomic !== undefined) {
      const refusal = await this.#openTransaction(execution, settings.atomic);
      if (refusal !== undefined) return refusal;
    }
    this.#observer.claimed(execution, takenOver);
    return { kind: 'run', execution };
  }

  /** A renewal tells which keys are still owned here, and this one is again, so the one that has lost it would never hear of it. */
  #supersede(earlier: OwnedExecution | undefined): void {
    if (earlier === undefined || earlier.settling) return;
    this.#leases.drop(earlier);
    this.#settlements.superseded(earlier);
  }

  async #openTransaction(execution: OwnedExecution, atomic: AtomicSettings): Promise<Refusal | undefined> {
    const { claim, settings } = execution;
    try {
      execution.transaction = await this.#atomic.open(execution, atomic);
      this.#leases.drop(execution); // the row is held now, and nobody may write to it from elsewhere
      if (execution.transaction !== undefined) return undefined;
      this.#settlements.forget(execution);
      return inUse(settings);
    } catch (error) {
      this.#settlements.forget(execution);
      return this.#giveBack(claim, settings, isIdempotencyError(error) ? error : new StoreUnavailable({ cause: error }));
    }
  }

  #giveBack(claim: Claim, settings: ExecutionSettings, error: IdempotencyError): Refusal {
    this.#persistence.releaseLater(claim, settings);
    return { kind: 'refuse', error };
  }

  /** The answer in the making is worth waiting for. If its execution fails, one of those who wait takes over. */
  async #wait(admission: Admission, claim: Claim, inUse: Verdict): Promise<Verdict> {
    const { identity, waitMs, signal } = admission;
    const waiter = this.#waiting.enter(identity.id, waitMs, signal);
    if (waiter === undefined) return inUse;
    try {
      for (;;) {
        const wake = await waiter.next();
        if (wake.kind === 'over') return inUse;
        if (wake.kind === 'told' && wake.news.fingerprint.equals(admission.fingerprint)) return asHeard(admission, wake.news.found);
        const found = await this.#claimOrLook(admission, claim, this.clock.now());
        if (!isInUse(found)) return this.#tellOthers(admission, found);
      }
    } finally {
      waiter.leave();
    }
  }

  /** Nobody knows whether the claim arrived: it is taken back by its token, so that the key is not in use for nothing. */
  #storeFailedAtClaim(admission: Admission, claim: Claim, error: IdempotencyError): Verdict {
    if (error.code !== 'IDEMPOTENCY_STORE_UNAVAILABLE') return this.#refuse(admission, error);
    this.#persistence.releaseLater(claim, admission.settings);
    this.#observer.storeFailed(admission, error.cause ?? error);
    return admission.settings.onStoreFailure === 'bypass' ? { kind: 'bypass' } : this.#refuse(admission, error);
  }

  #refuse(subject: Subject, error: IdempotencyError): Refusal {
    this.#observer.rejected(subject, error);
    return { kind: 'refuse', error };
  }
}

function isInUse(verdict: Verdict): boolean {
  return verdict.kind === 'refuse' && verdict.error.code === 'IDEMPOTENCY_KEY_IN_USE';
}

/** Without a store, another route's rule may be another one. */
function asHeard({ settings }: Admission, found: Found): Verdict {
  const isStoreAway = found.kind === 'refuse' && found.error.code === 'IDEMPOTENCY_STORE_UNAVAILABLE';
  return isStoreAway && settings.onStoreFailure === 'bypass' ? { kind: 'bypass' } : found;
}

function nobodys(): Pick<Admission, 'identity' | 'fingerprint'> {
  return { identity: identify('', '', randomUUID()), fingerprint: Buffer.alloc(0) };
}

/** Whoever takes a record over goes on with its life, and so keeps the fingerprint that names it. */
function inheriting(claim: Claim, { fingerprint }: FoundRecord): Claim {
  return { ...claim, fingerprint };
}

/** The owner token is new for every claim, and too long to be met twice. */
function claimOf({ identity, fingerprint, settings }: Pick<Admission, 'identity' | 'fingerprint' | 'settings'>): Claim {
  return {
    id: identity.id,
    owner: uuidText(randomBytes(16)),
    identity,
    fingerprint,
    leaseMs: settings.atomic === undefined ? settings.leaseMs : Math.min(settings.leaseMs, LEASE_BEFORE_BEGIN_MS),
    retentionMs: settings.retentionMs,
    durable: settings.durableClaim,
  };
}
