/**
 * From a request to its verdict: its key is claimed, and what stands in the way is judged. Whoever
 * gets the key owns it from here on, with a lease that is kept or a transaction that holds the record.
 *
 * What is found and what follows from it are apart: one look may be for many requests, and each is
 * judged by the rules of its own route.
 */
import type { Clock } from '../contract/clock.js';
import { KeyReused, OutcomeUnknown, StoreUnavailable, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Claim, ClaimResult, FoundRecord } from '../contract/record.js';
import type { AtomicSettings, ExecutionSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { Admission } from './admission.js';
import type { AtomicTransactions } from './atomic.js';
import { OwnedExecution } from './execution.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { Observer } from './observer.js';
import type { Persistence } from './persistence.js';
import { done, inUse } from './refusals.js';
import type { Roster } from './roster.js';
import type { Settlements } from './settlement.js';
import type { Finding, Found, News, Refusal, Verdict } from './verdict.js';
import type { WaitingRooms } from './waiting.js';

export interface ClaimsParts {
  readonly store: IdempotencyStore;
  readonly clock: Clock;
  readonly roster: Roster;
  readonly leases: LeaseKeeper;
  readonly persistence: Persistence;
  readonly atomic: AtomicTransactions;
  readonly settlements: Settlements;
  readonly waiting: WaitingRooms<News>;
  readonly observer: Observer;
  /** Whether nobody may begin any more. */
  readonly isDraining: () => boolean;
}

/**
 * A claim is tried again when a lost record was taken from under our eyes. Each round means that
 * somebody else made progress, so more than a few in a row is a crowd, not a race.
 */
const CLAIM_ROUNDS = 3;

export class Claims {
  constructor(private readonly parts: ClaimsParts) {}

  /**
   * Asks the store for the key, once for all who want to know.
   *
   * @throws StoreUnavailable, and whatever else the store refuses
   */
  ask(claim: Claim, withinMs: number): Promise<ClaimResult> {
    try {
      return this.parts.store.claim(claim, withinMs);
    } catch (error) {
      return Promise.reject(error as Error); // those who follow hear of it, whichever way it fails
    }
  }

  /**
   * What that has come to. Where the record is one to go on with, the store is asked for it: only then
   * is there a promise, and it may reject in the same ways.
   *
   * @param until when to give up, by the clock
   */
  findingOf(admission: Admission, claim: Claim, result: ClaimResult, until: number, round = 1): Finding | Promise<Finding> {
    switch (result.kind) {
      case 'claimed':
        return { kind: 'owned', claim, attempt: result.attempt, takenOver: false };
      case 'over-limit':
        return { ...result, maxLiveKeys: claim.maxLiveKeys };
      case 'found':
        if (this.mayTakeOver(admission, result.record)) return this.#takeOver(admission, claim, result.record, until, round);
        return { kind: 'found', record: result.record, held: false };
    }
  }

  async #takeOver(admission: Admission, claim: Claim, record: FoundRecord, until: number, round: number): Promise<Finding> {
    const taken = await this.parts.store.takeOver(claim, record, this.#left(until));
    if (taken.kind === 'taken') return { kind: 'owned', claim: inheriting(claim, record), attempt: taken.attempt, takenOver: true };
    // Its transaction lives, whatever the lease says; or a crowd takes it from one another.
    if (taken.kind === 'held' || round === CLAIM_ROUNDS) return { kind: 'found', record, held: true };
    return this.findingOf(admission, claim, await this.ask(claim, this.#left(until)), until, round + 1);
  }

  #left(until: number): number {
    return leftOf(until, this.parts.clock.now());
  }

  /** Whether that record is one to go on with, for this request. */
  mayTakeOver(admission: Admission, record: FoundRecord): boolean {
    if (isOfAnother(admission, record)) return false;
    if (record.state === 'open') return true;
    return record.state === 'lost' && !this.#isAtWorkHere(admission, record) && admission.settings.onLostExecution === 'rerun';
  }

  /**
   * What a request hears of a record that it does not take over. The fingerprint is compared before
   * the state: another request is another request, however the first one stands.
   *
   * @param held whether nobody can take it over just now: somebody is at work, whatever its state says
   */
  judge(admission: Admission, record: FoundRecord, held = false): Found {
    const { settings } = admission;
    if (isOfAnother(admission, record)) return { kind: 'refuse', error: new KeyReused() };
    switch (record.state) {
      case 'completed':
        return settings.window?.answer === 'reject' ? done(settings, record) : replayOf(record);
      case 'sealed':
        return done(settings, record);
      case 'lost':
        if (settings.onLostExecution === 'rerun' || held || this.#isAtWorkHere(admission, record)) return inUse(settings, record);
        return { kind: 'refuse', error: new OutcomeUnknown() };
      case 'running':
      case 'open':
        return inUse(settings, record);
    }
  }

  /** The key is at work in this process from the moment this returns, though its transaction is still to begin. */
  own(admission: Admission, { claim, attempt }: Extract<Finding, { kind: 'owned' }>, startedAt: number): OwnedExecution | Refusal {
    const { roster, leases, isDraining } = this.parts;
    const { settings, handler } = admission;
    if (isDraining()) return this.#giveBack(claim, settings, new StoreUnavailable());
    const execution = new OwnedExecution({ claim, keyed: true, attempt, settings, handler, startedAt });
    this.#supersede(roster.add(execution));
    leases.keep(execution, claim.leaseMs);
    return execution;
  }

  /** The verdict on a request that has become its key's owner. */
  begun(admission: Admission, owned: OwnedExecution | Refusal, takenOver: boolean): Verdict | Promise<Verdict> {
    if (!(owned instanceof OwnedExecution)) return owned;
    const { atomic } = admission.settings;
    if (atomic === undefined) return this.#run(admission, owned, takenOver);
    return this.#openTransaction(owned, atomic).then((refusal) => refusal ?? this.#run(admission, owned, takenOver));
  }

  #run(admission: Admission, execution: OwnedExecution, takenOver: boolean): Verdict {
    this.parts.observer.claimed(execution, takenOver, admission);
    return { kind: 'run', execution };
  }

  /** A refusal if it could not begin. */
  async #openTransaction(execution: OwnedExecution, atomic: AtomicSettings): Promise<Refusal | undefined> {
    const { leases, settlements, waiting } = this.parts;
    const { claim, settings } = execution;
    try {
      execution.transaction = await this.parts.atomic.open(execution, atomic);
      leases.drop(execution); // the row is held now, and nobody may write to it from elsewhere
      if (execution.transaction !== undefined) return undefined;
      settlements.forget(execution);
      waiting.nudge(claim.id);
      return inUse(settings);
    } catch (cause) {
      const error = isIdempotencyError(cause) ? cause : new StoreUnavailable({ cause });
      settlements.forget(execution);
      waiting.tell(claim.id, { kind: 'failed', error, patienceMs: settings.storeTimeoutMs });
      return this.#giveBack(claim, settings, error);
    }
  }

  /**
   * What follows where the store has failed at a claim. Unless that has never left, nobody knows
   * whether it arrived: it is taken back by its token, so that the key is not in use for nothing.
   */
  failed(admission: Admission, claim: Claim, error: IdempotencyError): Verdict {
    if (error.code === 'IDEMPOTENCY_STORE_UNAVAILABLE') {
      const unsent = error instanceof StoreUnavailable && error.unsent;
      if (!unsent) this.parts.persistence.releaseLater(claim, admission.settings);
      this.parts.observer.storeFailed(admission, error.cause ?? error);
    }
    return withoutStore(admission, error);
  }

  /** A lease may run out while Postgres is away, and the handler is still at work. */
  #isAtWorkHere({ identity }: Admission, { owner }: FoundRecord): boolean {
    return this.parts.roster.isOwner(identity.id, owner);
  }

  /** A renewal tells which keys are still owned here, and this one is again, so the one that has lost it would never hear of it. */
  #supersede(earlier: OwnedExecution | undefined): void {
    if (earlier === undefined || earlier.settling) return;
    this.parts.leases.drop(earlier);
    this.parts.settlements.superseded(earlier);
  }

  #giveBack(claim: Claim, settings: ExecutionSettings, error: IdempotencyError): Refusal {
    this.parts.persistence.releaseLater(claim, settings);
    return { kind: 'refuse', error };
  }
}

/** Milliseconds that the store still has; never none, which it could do nothing with. */
export function leftOf(until: number, now: number): number {
  return Math.max(1, until - now);
}

/** What a request hears where the store has failed, by the rule of its own route. */
export function withoutStore({ settings }: Admission, error: IdempotencyError): Verdict {
  const bypass = error.code === 'IDEMPOTENCY_STORE_UNAVAILABLE' && settings.onStoreFailure === 'bypass';
  return bypass ? { kind: 'bypass' } : { kind: 'refuse', error };
}

/** In a window there is nothing to compare: the record was found by all that a request says. */
function isOfAnother({ settings, fingerprint }: Admission, record: FoundRecord): boolean {
  return settings.window === undefined && !record.fingerprint.equals(fingerprint);
}

function replayOf(record: Extract<FoundRecord, { state: 'completed' }>): Found {
  try {
    return { kind: 'replay', answer: record.answer };
  } catch (error) {
    if (!isIdempotencyError(error)) throw error;
    return { kind: 'refuse', error };
  }
}

/** Whoever takes a record over goes on with its life, and so keeps the fingerprint that names it. */
function inheriting(claim: Claim, { fingerprint }: FoundRecord): Claim {
  return { ...claim, fingerprint };
}
