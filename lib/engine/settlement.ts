/**
 * How an execution ends: what is written, when its answer may leave, and what leaves instead when it
 * has been superseded or could not be committed. Those who wait for the answer hear of it here.
 */
import type { IdempotencyError } from '../contract/errors.js';
import type { FoundRecord } from '../contract/record.js';
import type { RecordTransaction } from '../contract/transaction.js';
import { failureOf, keepingWrite } from './atomic.js';
import type { AtomicTransactions } from './atomic.js';
import type { EndOfTurn } from './end-of-turn.js';
import type { OwnedExecution } from './execution.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { Observer } from './observer.js';
import type { Persisted, Persistence } from './persistence.js';
import { done, inUse } from './refusals.js';
import type { Roster } from './roster.js';
import type { Ending, News, Refusal, Settlement } from './verdict.js';
import type { WaitingRooms } from './waiting.js';

export interface SettlementParts {
  readonly turn: EndOfTurn;
  readonly roster: Roster;
  readonly leases: LeaseKeeper;
  readonly persistence: Persistence;
  readonly atomic: AtomicTransactions;
  readonly waiting: WaitingRooms<News>;
  readonly observer: Observer;
}

export class Settlements {
  constructor(private readonly parts: SettlementParts) {}

  settle(execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    execution.settling = true;
    this.parts.observer.settling(execution);
    const recorded = execution.recorded();
    return recorded === undefined ? this.#end(execution, ending) : this.#endAfter(recorded, execution, ending);
  }

  async #endAfter(recorded: Promise<unknown>, execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    await recorded;
    return this.#end(execution, ending);
  }

  #end(execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    const { transaction } = execution;
    if (transaction !== undefined) return this.#endAtomic(execution, ending, transaction);
    if (execution.inDoubt && ending.kind === 'free') return Promise.resolve(this.#told(execution, ending, this.#leaveInDoubt(execution)));
    return this.parts.persistence.persist(execution, ending, this.#endPlain);
  }

  #endAtomic(execution: OwnedExecution, ending: Ending, transaction: RecordTransaction): Promise<Settlement> {
    return this.#settleAtomic(execution, ending, transaction).then((settlement) =>
      this.parts.turn.tell(this.#told(execution, ending, settlement)),
    );
  }

  /** Made once: a function for every request would do the same. */
  readonly #endPlain = (execution: OwnedExecution, ending: Ending, settled: Persisted): Settlement =>
    this.#told(execution, ending, this.#settlePlain(execution, ending, settled));

  async settleWithin(host: OwnedExecution, execution: OwnedExecution, ending: Ending): Promise<Settlement> {
    const outer = host.transaction;
    if (outer === undefined) return this.settle(execution, ending);
    if (ending.kind === 'free') return this.settle(execution, ending);
    execution.settling = true;
    this.parts.observer.settling(execution);
    const recorded = execution.recorded();
    if (recorded !== undefined) await recorded;
    this.parts.leases.drop(execution); // from the write on, the transaction holds its row
    try {
      if (await outer.write(keepingWrite(execution, ending))) {
        host.join(execution, ending);
        return { kind: 'send' };
      }
    } catch (cause) {
      await this.settle(execution, { kind: 'free' });
      throw failureOf(cause);
    }
    this.superseded(execution);
    this.forget(execution);
    return this.#instead(execution, undefined);
  }

  async restart(execution: OwnedExecution): Promise<boolean> {
    const { transaction, settings } = execution;
    if (transaction === undefined || settings.atomic === undefined) return false;
    await this.parts.atomic.abandon(execution, transaction);
    await this.#settleJoined(execution, 'undone');
    const next = await this.parts.atomic.open(execution, settings.atomic);
    if (next === undefined) return false;
    execution.transaction = next;
    execution.runs += 1;
    return true;
  }

  /** Nobody knows, and the key is lost when its lease ends. */
  #leaveInDoubt(execution: OwnedExecution): Settlement {
    this.forget(execution);
    this.parts.observer.storeFailed(execution, undefined);
    return { kind: 'send' };
  }

  #settlePlain(execution: OwnedExecution, ending: Ending, settled: Persisted): Settlement {
    switch (settled.kind) {
      case 'settled':
        this.forget(execution);
        this.parts.observer.settled(execution, ending);
        return { kind: 'send' };
      case 'superseded':
        this.superseded(execution);
        this.forget(execution);
        return this.#instead(execution, settled.record);
      case 'unreachable':
        this.parts.observer.storeFailed(execution, settled.cause);
        void this.#noteLater(execution, ending, settled.later);
        return { kind: 'send' };
      case 'unreadable':
        this.forget(execution);
        return this.#refuse(execution, settled.error);
    }
  }

  /** The answer leaves only with its business rows. What could not be committed is refused, and the truth is told. */
  async #settleAtomic(execution: OwnedExecution, ending: Ending, transaction: RecordTransaction): Promise<Settlement> {
    const end = await this.parts.atomic.end(execution, transaction, ending);
    const cameThrough = end.kind === 'settled' && ending.kind !== 'free' && !ending.undo;
    await this.#settleJoined(execution, cameThrough ? 'done' : end.kind === 'unknown' ? 'unknown' : 'undone');
    this.forget(execution);
    switch (end.kind) {
      case 'settled':
        if (execution.keyed) this.parts.observer.settled(execution, ending);
        return { kind: 'send' };
      case 'superseded':
        this.superseded(execution);
        return this.#instead(execution, undefined);
      case 'rolled-back':
        if (execution.keyed) await this.#giveBack(execution);
        return ending.kind === 'free' ? { kind: 'send' } : this.#refuse(execution, end.error);
      case 'unknown':
        this.parts.observer.storeFailed(execution, end.error.cause);
        return ending.kind === 'free' ? { kind: 'send' } : this.#refuse(execution, end.error);
    }
  }

  async #settleJoined(host: OwnedExecution, fate: 'done' | 'undone' | 'unknown'): Promise<void> {
    for (const { execution, ending } of host.takeJoined()) {
      if (fate === 'undone') await this.#giveBack(execution);
      this.forget(execution);
      if (fate === 'unknown') {
        this.parts.observer.storeFailed(execution, undefined);
        continue; // the row's lock tells in time
      }
      const actual: Ending = fate === 'done' ? ending : { kind: 'free' };
      if (fate === 'done') this.parts.observer.settled(execution, actual);
      this.#tellWaiters(execution, actual, { kind: 'send' });
    }
  }

  /** Its transaction has gone, and with it all that it did: the key is to be free. */
  #giveBack(execution: OwnedExecution): Promise<void> {
    return this.parts.persistence.persist(execution, { kind: 'free' }, (_execution, _ending, freed) => {
      if (freed.kind === 'settled') this.parts.observer.settled(execution, { kind: 'free' });
      if (freed.kind === 'superseded') this.superseded(execution);
      if (freed.kind === 'unreachable') this.parts.observer.storeFailed(execution, freed.cause);
    });
  }

  #told(execution: OwnedExecution, ending: Ending, settlement: Settlement): Settlement {
    if (this.parts.waiting.isAwaited(execution.claim.id)) this.#tellWaiters(execution, ending, settlement);
    return settlement;
  }

  /** Those who wait here hear of the end at once; if there is no answer, one of them tries the key. */
  #tellWaiters(execution: OwnedExecution, ending: Ending, settlement: Settlement): void {
    const { claim, attempt, settings } = execution;
    if (settlement.kind === 'send' && ending.kind === 'keep') {
      const { fingerprint, owner } = claim;
      const { answer } = ending;
      const record = { state: 'completed', fingerprint, owner, attempt, retentionLeftMs: settings.retentionMs, answer } as const;
      this.parts.waiting.tell(claim.id, { kind: 'found', record, held: false });
    } else this.parts.waiting.nudge(claim.id);
  }

  /** A superseded owner's client hears what stands in the record by now, as any other retry would. */
  #instead(execution: OwnedExecution, record: FoundRecord | undefined): Settlement {
    const { claim, settings, startedAt } = execution;
    const ours = record?.fingerprint.equals(claim.fingerprint);
    if (ours && record?.state === 'completed') {
      this.parts.observer.replayed(execution, startedAt);
      return { kind: 'replay', answer: record.answer };
    }
    const { error } = ours && record?.state === 'sealed' ? done(settings, record) : inUse(settings, record);
    return this.#refuse(execution, error);
  }

  /** The answer has left without its record; whether there is one in the end is still worth knowing. */
  async #noteLater(execution: OwnedExecution, ending: Ending, later: Extract<Persisted, { kind: 'unreachable' }>['later']): Promise<void> {
    const { kind } = await later;
    if (kind === 'settled') this.parts.observer.settled(execution, ending);
    if (kind === 'superseded') this.superseded(execution);
    this.forget(execution);
  }

  #refuse(execution: OwnedExecution, error: IdempotencyError): Refusal {
    this.parts.observer.rejected(execution, error);
    return { kind: 'refuse', error };
  }

  /** Notes that somebody else owns the key by now. */
  superseded(execution: OwnedExecution): void {
    if (execution.lose()) this.parts.observer.leaseLost(execution);
  }

  /** It is over, whatever came of it. */
  forget(execution: OwnedExecution): void {
    this.parts.leases.drop(execution);
    this.parts.roster.remove(execution);
  }
}
