/**
 * From a request to its verdict: its key is claimed, and what stands in the way is judged. Whoever
 * gets the key owns it from here on, with a lease that is kept or a transaction that holds the record.
 */
import type { Clock } from '../contract/clock.js';
import { KeyReused, OutcomeUnknown, StoreUnavailable, TooManyKeys, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Claim, FoundRecord } from '../contract/record.js';
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
import type { Found, Refusal, Verdict } from './verdict.js';

export interface ClaimsParts {
  readonly store: IdempotencyStore;
  readonly clock: Clock;
  readonly roster: Roster;
  readonly leases: LeaseKeeper;
  readonly persistence: Persistence;
  readonly atomic: AtomicTransactions;
  readonly settlements: Settlements;
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

  /** @throws StoreUnavailable, and whatever else the store refuses */
  async claimOrLook(admission: Admission, claim: Claim): Promise<Verdict> {
    const { store, clock } = this.parts;
    const { storeTimeoutMs, retryAfterMs } = admission.settings;
    const startedAt = clock.now();
    const left = (): number => storeTimeoutMs - (clock.now() - startedAt);
    for (let round = 0; round < CLAIM_ROUNDS; round++) {
      const result = await store.claim(claim, left());
      if (result.kind === 'claimed') return this.#own(admission, claim, result.attempt, startedAt, false);
      if (result.kind === 'over-limit') return { kind: 'refuse', error: new TooManyKeys(Math.max(retryAfterMs, result.freesInMs ?? 0)) };
      const verdict = this.#judge(admission, result.record);
      if (verdict !== 'take-over') return verdict;
      const taken = await store.takeOver(claim, result.record, left());
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
        if (this.parts.roster.isOwner(identity.id, record.owner)) return inUse(settings, record);
        return settings.onLostExecution === 'reject' ? { kind: 'refuse', error: new OutcomeUnknown() } : 'take-over';
      case 'open':
        return 'take-over';
    }
  }

  async #own(admission: Admission, claim: Claim, attempt: number, startedAt: number, takenOver: boolean): Promise<Verdict> {
    const { roster, leases, observer, isDraining } = this.parts;
    const { settings, handler } = admission;
    if (isDraining()) return this.#giveBack(claim, settings, new StoreUnavailable());
    const execution = new OwnedExecution({ claim, keyed: true, attempt, settings, handler, startedAt });
    this.#supersede(roster.add(execution));
    leases.keep(execution, claim.leaseMs);
    if (settings.atomic !== undefined) {
      const refusal = await this.#openTransaction(execution, settings.atomic);
      if (refusal !== undefined) return refusal;
    }
    observer.claimed(execution, takenOver, admission);
    return { kind: 'run', execution };
  }

  /** A renewal tells which keys are still owned here, and this one is again, so the one that has lost it would never hear of it. */
  #supersede(earlier: OwnedExecution | undefined): void {
    if (earlier === undefined || earlier.settling) return;
    this.parts.leases.drop(earlier);
    this.parts.settlements.superseded(earlier);
  }

  async #openTransaction(execution: OwnedExecution, atomic: AtomicSettings): Promise<Refusal | undefined> {
    const { claim, settings } = execution;
    try {
      execution.transaction = await this.parts.atomic.open(execution, atomic);
      this.parts.leases.drop(execution); // the row is held now, and nobody may write to it from elsewhere
      if (execution.transaction !== undefined) return undefined;
      this.parts.settlements.forget(execution);
      return inUse(settings);
    } catch (error) {
      this.parts.settlements.forget(execution);
      return this.#giveBack(claim, settings, isIdempotencyError(error) ? error : new StoreUnavailable({ cause: error }));
    }
  }

  #giveBack(claim: Claim, settings: ExecutionSettings, error: IdempotencyError): Refusal {
    this.parts.persistence.releaseLater(claim, settings);
    return { kind: 'refuse', error };
  }
}

/** Whoever takes a record over goes on with its life, and so keeps the fingerprint that names it. */
function inheriting(claim: Claim, { fingerprint }: FoundRecord): Claim {
  return { ...claim, fingerprint };
}
