/**
 * A store whose answers and step results are sealed before they reach the real one, and opened on their
 * way back. What the two say about keys, owners and leases passes as it is. Without keys it seals
 * nothing, and still refuses what others have sealed.
 */
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type {
  Claim,
  ClaimResult,
  FoundRecord,
  Identity,
  Ownership,
  RecordedStep,
  RecordSummary,
  Released,
  Settled,
  StoreStats,
  TakeOverResult,
} from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { IdempotencyStore, Lease, StoreFindings, StoreNeeds } from '../contract/store.js';
import type {
  CommitResult,
  KeepingWrite,
  LastWrite,
  RecordTransaction,
  TransactionClient,
  TransactionSettings,
} from '../contract/transaction.js';
import type { Sealing } from './sealing.js';

type Completed = Extract<FoundRecord, { state: 'completed' }>;

export class SealingStore implements IdempotencyStore {
  constructor(
    private readonly store: IdempotencyStore,
    private readonly sealing: Sealing,
    private readonly clock: Clock,
  ) {}

  claim(claim: Claim, withinMs: number): Promise<ClaimResult> {
    return this.store
      .claim(claim, withinMs)
      .then((result) => (result.kind === 'found' ? { kind: 'found', record: this.#toBeOpened(claim.id, result.record) } : result));
  }

  /** With steps that can't be opened the execution could not be resumed: its handler does not even begin. */
  async takeOver(claim: Claim, from: FoundRecord, withinMs: number): Promise<TakeOverResult> {
    const startedAt = this.clock.now();
    const taken = await this.store.takeOver(claim, from, withinMs);
    if (taken.kind !== 'taken' || !this.sealing.hasKeys) return taken;
    const left = (): number => Math.max(1, withinMs - (this.clock.now() - startedAt));
    try {
      await this.steps(claim, left());
      return taken;
    } catch (error) {
      if (isIdempotencyError(error) && error.code === 'IDEMPOTENCY_RECORD_UNREADABLE')
        await this.store.release(claim, claim.retentionMs, left());
      throw error;
    }
  }

  complete(ownership: Ownership, answer: RecordedResponse, retentionMs: number, withinMs: number): Promise<Settled> {
    const { id } = ownership;
    return this.store
      .complete(ownership, this.sealing.sealAnswer(id, answer), retentionMs, withinMs)
      .then((settled) => this.#opened(id, settled));
  }

  async seal(ownership: Ownership, status: number | undefined, retentionMs: number, withinMs: number): Promise<Settled> {
    return this.#opened(ownership.id, await this.store.seal(ownership, status, retentionMs, withinMs));
  }

  release(ownership: Ownership, retentionMs: number, withinMs: number): Promise<Released> {
    return this.store.release(ownership, retentionMs, withinMs);
  }

  async steps(ownership: Ownership, withinMs: number): Promise<readonly RecordedStep[]> {
    const steps = await this.store.steps(ownership, withinMs);
    return steps.map((step) => this.sealing.openStep(ownership.id, step));
  }

  recordStep(ownership: Ownership, step: RecordedStep, withinMs: number): Promise<boolean> {
    return this.store.recordStep(ownership, this.sealing.sealStep(ownership.id, step), withinMs);
  }

  flush(ownership: Ownership, withinMs: number): Promise<boolean> {
    return this.store.flush(ownership, withinMs);
  }

  transaction(ownership: Ownership, settings: TransactionSettings): Promise<RecordTransaction | undefined> {
    const opening = this.store.transaction(ownership, settings);
    if (!this.sealing.hasKeys) return opening; // what is written in it would pass through as it is
    return opening.then((transaction) => transaction && new SealingTransaction(transaction, this.sealing));
  }

  outcomeOf(ownership: Ownership, withinMs: number, step?: string): Promise<'committed' | 'rolled-back' | undefined> {
    return this.store.outcomeOf(ownership, withinMs, step);
  }

  renew(leases: readonly Lease[], withinMs: number): Promise<readonly string[]> {
    return this.store.renew(leases, withinMs);
  }

  listen(id: string, onHint: () => void, onReliance?: (relies: boolean) => void): () => void {
    return this.store.listen(id, onHint, onReliance);
  }

  isListening(): boolean {
    return this.store.isListening?.() ?? false;
  }

  find(identity: Identity): Promise<RecordSummary | undefined> {
    return this.store.find(identity);
  }

  resolve(
    identity: Identity,
    answer: RecordedResponse | undefined,
    retentionMs: number,
  ): Promise<'resolved' | 'absent' | 'live' | 'completed'> {
    return this.store.resolve(identity, answer && this.sealing.sealAnswer(identity.id, answer), retentionMs);
  }

  forget(identity: Identity): Promise<'removed' | 'absent' | 'live'> {
    return this.store.forget(identity);
  }

  forgetScope(scope: string, batch: number): Promise<number> {
    return this.store.forgetScope(scope, batch);
  }

  stats(): Promise<StoreStats> {
    return this.store.stats();
  }

  reap(batch: number): Promise<number> {
    return this.store.reap(batch);
  }

  inspect(needs?: StoreNeeds): Promise<StoreFindings> {
    return this.store.inspect(needs);
  }

  close(): Promise<void> {
    return this.store.close();
  }

  /** Whoever is refused for another reason needs no key, and hears that reason. */
  #toBeOpened(id: string, record: FoundRecord): FoundRecord {
    return record.state === 'completed' ? new UnopenedRecord(this.sealing, id, record) : record;
  }

  /** An execution that was superseded has nothing else to ask about the record that did so. */
  #opened(id: string, settled: Settled): Settled {
    if (settled.kind === 'settled' || settled.record?.state !== 'completed') return settled;
    return { kind: 'superseded', record: { ...settled.record, answer: this.sealing.openAnswer(id, settled.record.answer) } };
  }
}

/** Its answer is opened when somebody asks for it, once for however many requests there are that get it. */
class UnopenedRecord implements Completed {
  readonly state = 'completed';
  readonly fingerprint: Buffer;
  readonly owner: string;
  readonly attempt: number;
  readonly retentionLeftMs: number;
  readonly #sealing: Sealing;
  readonly #id: string;
  readonly #sealed: RecordedResponse;
  #opened: RecordedResponse | undefined;

  constructor(sealing: Sealing, id: string, { fingerprint, owner, attempt, retentionLeftMs, answer }: Completed) {
    this.fingerprint = fingerprint;
    this.owner = owner;
    this.attempt = attempt;
    this.retentionLeftMs = retentionLeftMs;
    this.#sealing = sealing;
    this.#id = id;
    this.#sealed = answer;
  }

  get answer(): RecordedResponse {
    return (this.#opened ??= this.#sealing.openAnswer(this.#id, this.#sealed));
  }
}

class SealingTransaction implements RecordTransaction {
  constructor(
    private readonly transaction: RecordTransaction,
    private readonly sealing: Sealing,
  ) {}

  get manager(): unknown {
    return this.transaction.manager;
  }

  get client(): TransactionClient {
    return this.transaction.client;
  }

  keepAlive(): Promise<void> {
    return this.transaction.keepAlive();
  }

  probe(): Promise<void> {
    return this.transaction.probe();
  }

  savepoint<T>(work: () => Promise<T>): Promise<T> {
    return this.transaction.savepoint(work);
  }

  async write(last: LastWrite): Promise<boolean> {
    return this.transaction.write(this.#sealed(last));
  }

  recordStep(ownership: Ownership, step: RecordedStep): Promise<boolean> {
    return this.transaction.recordStep(ownership, this.sealing.sealStep(ownership.id, step));
  }

  async commit(last?: KeepingWrite): Promise<CommitResult> {
    return this.transaction.commit(last && this.#sealed(last));
  }

  async undo(last: LastWrite): Promise<CommitResult> {
    return this.transaction.undo(this.#sealed(last));
  }

  rollBack(): Promise<void> {
    return this.transaction.rollBack();
  }

  #sealed<Write extends LastWrite>(last: Write): Write {
    return last.kind === 'complete' ? { ...last, answer: this.sealing.sealAnswer(last.ownership.id, last.answer) } : last;
  }
}
