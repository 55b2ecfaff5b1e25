/**
 * The one screen that tells the story: a request *begins*, gets a *verdict*, and what ran is
 * *settled*.
 *
 * An answer leaves only after its record is safe, and a key that has an answer keeps it until its
 * retention ends. The engine decides by what the store tells it, and refuses to know how a request
 * looks, who renders answers, and what a database is.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../contract/clock.js';
import { KeyInUse, KeyReused, OutcomeUnknown, ResultNotReplayable, StoreUnavailable, isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { EventSink } from '../contract/events.js';
import type { Claim, FoundRecord, Identity } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { ExecutionSettings } from '../contract/settings.js';
import type { IdempotencyStore } from '../contract/store.js';
import { OwnedExecution } from './execution.js';
import { LeaseKeeper } from './lease-keeper.js';
import { Observer } from './observer.js';
import type { Subject } from './observer.js';
import { Persistence } from './persistence.js';
import type { Persisted } from './persistence.js';
import { uuidText } from './uuid.js';

/** A request at the door: whose it is, what it is, and the rules of its route. */
export interface Admission {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
  readonly settings: ExecutionSettings;
  /** `Controller.method`, for events and logs. */
  readonly handler: string;
}

export type Verdict =
  /** The key is ours: run the handler, then `settle`. */
  | { readonly kind: 'run'; readonly execution: OwnedExecution }
  | { readonly kind: 'replay'; readonly answer: RecordedResponse }
  | Refusal
  /** The store is away and the route would rather run unprotected. */
  | { readonly kind: 'bypass' };

export interface Refusal {
  readonly kind: 'refuse';
  readonly error: IdempotencyError;
}

/** How an execution ended, as its route's rules have it. */
export type Ending =
  | { readonly kind: 'keep'; readonly answer: RecordedResponse }
  /** Done, never again, and nothing to replay. */
  | { readonly kind: 'seal'; readonly status?: number }
  | { readonly kind: 'free' };

/** What may leave now. */
export type Settlement =
  /** The execution's own answer. */
  | { readonly kind: 'send' }
  /** It was superseded: what the new owner's record says, instead. */
  | Exclude<Verdict, { kind: 'run' | 'bypass' }>;

/**
 * A claim is tried again when a lost record was taken from under our eyes. Each round means that
 * somebody else made progress, so more than a few in a row is a crowd, not a race.
 */
const CLAIM_ROUNDS = 3;

export class Engine {
  /** This process's executions by their identity, until they are settled. */
  readonly #live = new Map<string, OwnedExecution>();
  readonly #leases: LeaseKeeper;
  readonly #persistence: Persistence;
  readonly #observer: Observer;
  /** Requests whose claim is on its way. */
  #beginning = 0;
  #draining = false;
  #whenIdle: (() => void) | undefined;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
    events: EventSink,
  ) {
    this.#observer = new Observer(events, clock);
    this.#persistence = new Persistence(store, clock);
    this.#leases = new LeaseKeeper(
      store,
      clock,
      (execution) => this.#superseded(execution),
      (cause) => this.#observer.renewalFailed(cause),
    );
  }

  async begin(admission: Admission): Promise<Verdict> {
    if (this.#draining) return this.#refuse(admission, new StoreUnavailable());
    const claim = claimOf(admission);
    const startedAt = this.clock.now();
    this.#beginning += 1;
    try {
      const verdict = await this.#claimOrLook(admission, claim, startedAt);
      if (verdict.kind === 'refuse') this.#observer.rejected(admission, verdict.error);
      if (verdict.kind === 'replay') this.#observer.replayed(admission, startedAt);
      return verdict;
    } catch (error) {
      if (!isIdempotencyError(error)) throw error;
      return this.#storeFailedAtClaim(admission, claim, error);
    } finally {
      this.#beginning -= 1;
      this.#tellIfIdle();
    }
  }

  /** Ends an execution. Once this resolves, what it says may leave; it never rejects. */
  async settle(execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    execution.settling = true;
    const settled = await this.#persistence.persist(execution, ending);
    switch (settled.kind) {
      case 'settled':
        this.#forget(execution);
        this.#observer.settled(execution, ending);
        return { kind: 'send' };
      case 'superseded':
        this.#superseded(execution);
        this.#forget(execution);
        return this.#instead(execution, settled.record);
      case 'unreachable':
        this.#observer.storeFailed(execution, settled.cause);
        void this.#noteLater(execution, ending, settled.later);
        return { kind: 'send' };
      case 'unreadable':
        this.#forget(execution);
        return this.#refuse(execution, settled.error);
    }
  }

  /**
   * From now on nobody begins. Resolves once all claims are answered and all executions are settled,
   * or after `withinMs`; whatever has not begun by then never will, and leaves no claim behind.
   */
  async drain(withinMs: number): Promise<void> {
    this.#draining = true;
    if (!this.#idle) await this.#untilIdle(withinMs);
    await Promise.all([...this.#live.values()].map((execution) => execution.callOff()));
    await new Promise(setImmediate); // what has just been settled is then on its way to its client
  }

  /** Stops every timer and background write. What still runs becomes lost when its lease ends. */
  async close(): Promise<void> {
    this.#draining = true;
    await Promise.all([this.#leases.stop(), this.#persistence.stop()]);
  }

  #untilIdle(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(withinMs, resolve);
      this.#whenIdle = () => {
        cancel();
        resolve();
      };
    });
  }

  async #claimOrLook(admission: Admission, claim: Claim, startedAt: number): Promise<Verdict> {
    const { storeTimeoutMs, retryAfterMs } = admission.settings;
    for (let round = 0; round < CLAIM_ROUNDS; round++) {
      const left = storeTimeoutMs - (this.clock.now() - startedAt);
      const result = await this.store.claim(claim, left);
      if (result.kind === 'claimed') return this.#own(admission, claim, result.attempt, startedAt, false);
      const verdict = this.#judge(admission, result.record);
      if (verdict !== 'take-over') return verdict;
      const taken = await this.store.takeOver(claim, result.record, storeTimeoutMs - (this.clock.now() - startedAt));
      if (taken !== undefined) return this.#own(admission, claim, taken.attempt, startedAt, true);
    }
    return { kind: 'refuse', error: new KeyInUse(retryAfterMs) };
  }

  /** The fingerprint is compared before the state: another request is another request, however the first one stands. */
  #judge(admission: Admission, record: FoundRecord): Exclude<Verdict, { kind: 'run' | 'bypass' }> | 'take-over' {
    const { settings, identity, fingerprint } = admission;
    if (!record.fingerprint.equals(fingerprint)) return { kind: 'refuse', error: new KeyReused() };
    switch (record.state) {
      case 'completed':
        return { kind: 'replay', answer: record.answer };
      case 'sealed':
        return { kind: 'refuse', error: new ResultNotReplayable() };
      case 'running':
        return { kind: 'refuse', error: new KeyInUse(settings.retryAfterMs) };
      case 'lost':
        // The lease ran out while Postgres was away, but the handler is still at work right here.
        if (this.#live.get(identity.id)?.ownership.owner === record.owner)
          return { kind: 'refuse', error: new KeyInUse(settings.retryAfterMs) };
        return settings.onLostExecution === 'reject' ? { kind: 'refuse', error: new OutcomeUnknown() } : 'take-over';
      case 'open':
        return 'take-over';
    }
  }

  #own(admission: Admission, claim: Claim, attempt: number, startedAt: number, takenOver: boolean): Verdict {
    if (this.#draining) {
      this.#persistence.releaseLater(claim, admission.settings);
      return { kind: 'refuse', error: new StoreUnavailable() };
    }
    const execution = new OwnedExecution(claim, attempt, admission.settings, admission.handler, startedAt);
    this.#live.set(claim.id, execution);
    this.#leases.keep(execution);
    this.#observer.claimed(execution, takenOver);
    return { kind: 'run', execution };
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

  /** A superseded owner's client hears what stands in the record by now, as any other retry would. */
  #instead(execution: OwnedExecution, record: FoundRecord | undefined): Settlement {
    const ours = record?.fingerprint.equals(execution.claim.fingerprint);
    if (ours && record?.state === 'completed') {
      this.#observer.replayed(execution, execution.startedAt);
      return { kind: 'replay', answer: record.answer };
    }
    const sealed = ours && record?.state === 'sealed';
    return this.#refuse(execution, sealed ? new ResultNotReplayable() : new KeyInUse(execution.settings.retryAfterMs));
  }

  /** The answer has left without its record; whether there is one in the end is still worth knowing. */
  async #noteLater(execution: OwnedExecution, ending: Ending, later: Extract<Persisted, { kind: 'unreachable' }>['later']): Promise<void> {
    const { kind } = await later;
    if (kind === 'settled') this.#observer.settled(execution, ending);
    if (kind === 'superseded') this.#superseded(execution);
    this.#forget(execution);
  }

  #superseded(execution: OwnedExecution): void {
    if (execution.lose()) this.#observer.leaseLost(execution);
  }

  #forget(execution: OwnedExecution): void {
    this.#leases.drop(execution);
    if (this.#live.get(execution.identity.id) === execution) this.#live.delete(execution.identity.id);
    this.#tellIfIdle();
  }

  get #idle(): boolean {
    return this.#live.size === 0 && this.#beginning === 0;
  }

  #tellIfIdle(): void {
    if (this.#idle) this.#whenIdle?.();
  }
}

/** The owner token is new for every claim, and too long to be met twice. */
function claimOf({ identity, fingerprint, settings }: Admission): Claim {
  return {
    id: identity.id,
    owner: uuidText(randomBytes(16)),
    identity,
    fingerprint,
    leaseMs: settings.leaseMs,
    retentionMs: settings.retentionMs,
    durable: settings.durableClaim,
  };
}
