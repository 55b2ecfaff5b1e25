/**
 * The store in memory, for tests without Postgres: the same contract as the real one, in one process
 * and for as long as that lives. What Postgres gets from row locks, it gets from running to the end
 * of each decision before anybody else has a turn.
 *
 * It has no transactions: business rows elsewhere can't commit together with a record here.
 */
import { systemClock, type Clock } from '../contract/clock.js';
import { RecordUnreadable, StoreUnavailable, TransactionMisused } from '../contract/errors.js';
import type {
  Claim,
  ClaimResult,
  FoundRecord,
  Identity,
  Ownership,
  RecordedStep,
  RecordState,
  RecordSummary,
  Released,
  Settled,
  StoreStats,
  TakeOverResult,
} from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { IdempotencyStore, Lease, StoreFindings } from '../contract/store.js';

/** A record as it is kept. Instants are on the store's clock. */
interface Row {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
  readonly createdAt: number;
  /** When its retention ends if it is completed at once; what a running record has for `expiresAt`. */
  readonly plannedEnd: number;
  owner: string;
  attempt: number;
  /** What is written; *lost* is a running row whose lease has passed. */
  state: Exclude<RecordState, 'lost'>;
  lockedUntil: number | undefined;
  completedAt: number | undefined;
  expiresAt: number | undefined;
  status: number | undefined;
  answer: RecordedResponse | undefined;
  readonly steps: Map<string, { readonly owner: string; readonly result: Buffer }>;
}

export interface InMemoryStoreOptions {
  /** What ends leases and retention. Default: the system's clock; give a `ManualClock` to move time by hand. */
  readonly clock?: Clock;
}

export class InMemoryIdempotencyStore implements IdempotencyStore {
  readonly #rows = new Map<string, Row>();
  readonly #clock: Clock;
  /** The clock counts from anywhere; dates are told as if this store had been made at the present one. */
  readonly #epoch: number;
  #closed = false;

  constructor({ clock = systemClock }: InMemoryStoreOptions = {}) {
    this.#clock = clock;
    this.#epoch = Date.now() - this.#now();
  }

  async claim(claim: Claim): Promise<ClaimResult> {
    const row = this.#row(claim.identity);
    if (row === undefined || this.#isExpired(row)) return this.#claimFree(claim);
    if (row.owner === claim.owner && row.state === 'running') return { kind: 'claimed', attempt: row.attempt };
    return { kind: 'found', record: this.#found(row) };
  }

  async takeOver(claim: Claim, from: FoundRecord): Promise<TakeOverResult> {
    const row = this.#open().get(claim.id);
    if (row === undefined) return { kind: 'changed' };
    if (row.owner === claim.owner && row.state === 'running') return { kind: 'taken', attempt: row.attempt };
    const isFree = this.#isLost(row) || (row.state === 'open' && !this.#isExpired(row));
    if (row.owner !== from.owner || !isFree) return { kind: 'changed' };
    row.owner = claim.owner;
    row.state = 'running';
    row.attempt += 1;
    row.lockedUntil = this.#now() + claim.leaseMs;
    row.completedAt = row.expiresAt = undefined;
    return { kind: 'taken', attempt: row.attempt };
  }

  async complete(ownership: Ownership, answer: RecordedResponse, retentionMs: number): Promise<Settled> {
    return this.#settle(ownership, (row) => this.#answer(row, answer, retentionMs));
  }

  async seal(ownership: Ownership, status: number | undefined, retentionMs: number): Promise<Settled> {
    return this.#settle(ownership, (row) => {
      this.#end(row, 'sealed', retentionMs);
      row.status = status;
    });
  }

  async release(ownership: Ownership, retentionMs: number): Promise<Released> {
    const row = this.#owned(ownership);
    if (row === undefined) {
      const standing = this.#open().get(ownership.id);
      return standing?.owner === ownership.owner && standing.state === 'open' ? 'opened' : 'absent';
    }
    if (row.steps.size === 0) {
      this.#rows.delete(ownership.id);
      return 'freed';
    }
    row.state = 'open';
    row.lockedUntil = undefined;
    row.expiresAt = this.#now() + retentionMs;
    return 'opened';
  }

  async steps(ownership: Ownership): Promise<readonly RecordedStep[]> {
    const steps = this.#owned(ownership)?.steps ?? [];
    return [...steps].map(([name, { result }]) => ({ name, result: Buffer.from(result) }));
  }

  async recordStep(ownership: Ownership, { name, result }: RecordedStep): Promise<boolean> {
    const row = this.#owned(ownership);
    if (row === undefined) return false;
    const recorded = row.steps.get(name);
    if (recorded === undefined) row.steps.set(name, { owner: ownership.owner, result: Buffer.from(result) });
    return recorded === undefined || recorded.owner === ownership.owner;
  }

  /** Memory is as durable as it will ever be. */
  async flush(ownership: Ownership): Promise<boolean> {
    return this.#owned(ownership) !== undefined;
  }

  /** @throws TransactionMisused always: see above */
  async transaction(): Promise<never> {
    this.#open();
    throw new TransactionMisused(
      'The in-memory store has no transactions, so atomic handlers and execution.transaction() need Postgres. ' +
        'In tests of these, import IdempotencyModule and a DataSource of a test database instead of IdempotencyTestingModule.',
    );
  }

  /** There is none whose outcome could be in doubt. */
  async outcomeOf(): Promise<undefined> {
    this.#open();
  }

  async renew(leases: readonly Lease[]): Promise<readonly string[]> {
    const renewed: string[] = [];
    for (const lease of leases) {
      const row = this.#owned(lease);
      if (row === undefined) continue;
      row.lockedUntil = this.#now() + lease.leaseMs;
      renewed.push(lease.id);
    }
    return renewed;
  }

  /** There is no other process whose doings could be told; whoever asks looks once. */
  listen(_id: string, onHint: () => void): () => void {
    let isListening = true;
    queueMicrotask(() => {
      if (isListening) onHint();
    });
    return () => {
      isListening = false;
    };
  }

  async find(identity: Identity): Promise<RecordSummary | undefined> {
    const row = this.#row(identity);
    return row === undefined || this.#isExpired(row) ? undefined : this.#summary(row);
  }

  async resolve(
    identity: Identity,
    answer: RecordedResponse | undefined,
    retentionMs: number,
  ): Promise<'resolved' | 'absent' | 'live' | 'completed'> {
    const row = this.#row(identity);
    if (row === undefined || this.#isExpired(row)) return 'absent';
    if (row.state === 'completed') return 'completed';
    if (this.#isLive(row)) return 'live';
    if (answer === undefined) this.#rows.delete(identity.id);
    else {
      row.owner = ''; // nobody's: a late owner learns that its own answer is none
      this.#answer(row, answer, retentionMs);
    }
    return 'resolved';
  }

  async forget(identity: Identity): Promise<'removed' | 'absent' | 'live'> {
    const row = this.#row(identity);
    if (row === undefined) return 'absent';
    if (this.#isLive(row)) return 'live';
    this.#rows.delete(identity.id);
    return this.#isExpired(row) ? 'absent' : 'removed';
  }

  async forgetScope(scope: string): Promise<number> {
    return this.#remove((row) => row.identity.scope === scope && !this.#isLive(row));
  }

  async stats(): Promise<StoreStats> {
    const counts = { running: 0, lost: 0, completed: 0, sealed: 0, open: 0, expired: 0 };
    let oldestLost = Infinity;
    for (const row of this.#open().values()) {
      const standing = this.#isExpired(row) ? 'expired' : this.#standing(row);
      counts[standing] += 1;
      if (standing === 'lost') oldestLost = Math.min(oldestLost, row.lockedUntil ?? oldestLost);
    }
    return { ...counts, ...(counts.lost > 0 && { oldestLost: this.#date(oldestLost) }) };
  }

  async reap(batch: number): Promise<number> {
    return this.#remove((row) => this.#isExpired(row), batch);
  }

  async inspect(): Promise<StoreFindings> {
    this.#open();
    return { synchronousCommit: 'on', connectionLimit: undefined };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#rows.clear();
  }

  /** Makes a running record lost at once, as if its lease had passed: for tests of what comes after a crash. */
  endLease({ id, owner }: Ownership): void {
    const row = this.#rows.get(id);
    if (row?.owner === owner && row.state === 'running') row.lockedUntil = this.#now();
  }

  #claimFree(claim: Claim): ClaimResult {
    const { maxLiveKeys = Infinity, identity } = claim;
    const live = [...this.#rows.values()].filter((row) => row.identity.scope === identity.scope && !this.#isExpired(row));
    if (live.length >= maxLiveKeys) {
      const ends = live.flatMap(({ expiresAt }) => expiresAt ?? []);
      return { kind: 'over-limit', freesInMs: ends.length === 0 ? undefined : Math.min(...ends) - this.#now() };
    }
    this.#rows.set(claim.id, this.#claimed(claim));
    return { kind: 'claimed', attempt: 1 };
  }

  /** Whole milliseconds, so that dates are as far apart as durations say. */
  #now(): number {
    return Math.floor(this.#clock.now());
  }

  #open(): Map<string, Row> {
    if (this.#closed) throw new StoreUnavailable({ cause: new Error('The store was closed.') });
    return this.#rows;
  }

  /** Found by a digest, and believed only when what was digested is the same too. */
  #row({ id, scope, operation, key }: Identity): Row | undefined {
    const row = this.#open().get(id);
    if (row === undefined) return undefined;
    const { identity } = row;
    if (identity.scope !== scope || identity.operation !== operation || identity.key !== key) throw new RecordUnreadable();
    return row;
  }

  #owned({ id, owner }: Ownership): Row | undefined {
    const row = this.#open().get(id);
    return row?.owner === owner && row.state === 'running' ? row : undefined;
  }

  #settle(ownership: Ownership, write: (row: Row) => void): Settled {
    const row = this.#owned(ownership);
    if (row !== undefined) {
      write(row);
      return { kind: 'settled' };
    }
    const standing = this.#open().get(ownership.id);
    const isOurs = standing?.owner === ownership.owner && (standing.state === 'completed' || standing.state === 'sealed');
    if (isOurs) return { kind: 'settled' }; // in an earlier call
    return { kind: 'superseded', record: standing === undefined || this.#isExpired(standing) ? undefined : this.#found(standing) };
  }

  #answer(row: Row, answer: RecordedResponse, retentionMs: number): void {
    this.#end(row, 'completed', retentionMs);
    row.status = answer.status;
    row.answer = copyOf(answer);
  }

  #end(row: Row, state: 'completed' | 'sealed', retentionMs: number): void {
    row.state = state;
    row.lockedUntil = undefined;
    row.completedAt = this.#now();
    row.expiresAt = row.completedAt + retentionMs;
  }

  #remove(goes: (row: Row) => boolean, most = Infinity): number {
    let removed = 0;
    for (const [id, row] of this.#open()) {
      if (removed >= most) break;
      if (goes(row) && this.#rows.delete(id)) removed += 1;
    }
    return removed;
  }

  #claimed({ identity, fingerprint, owner, leaseMs, retentionMs }: Claim): Row {
    const now = this.#now();
    return {
      identity,
      fingerprint: Buffer.from(fingerprint),
      createdAt: now,
      plannedEnd: now + retentionMs,
      owner,
      attempt: 1,
      state: 'running',
      lockedUntil: now + leaseMs,
      completedAt: undefined,
      expiresAt: undefined,
      status: undefined,
      answer: undefined,
      steps: new Map(),
    };
  }

  #standing(row: Row): RecordState {
    return this.#isLost(row) ? 'lost' : row.state;
  }

  #isLost({ state, lockedUntil = Infinity }: Row): boolean {
    return state === 'running' && lockedUntil <= this.#now();
  }

  #isLive(row: Row): boolean {
    return row.state === 'running' && !this.#isLost(row);
  }

  #isExpired({ expiresAt = Infinity }: Row): boolean {
    return expiresAt <= this.#now();
  }

  #found(row: Row): FoundRecord {
    const { fingerprint, owner, attempt, expiresAt = row.plannedEnd } = row;
    const common = { fingerprint: Buffer.from(fingerprint), owner, attempt, retentionLeftMs: expiresAt - this.#now() };
    const state = this.#standing(row);
    if (state === 'running') return { state, ...common, leaseLeftMs: (row.lockedUntil ?? 0) - this.#now() };
    if (state !== 'completed') return { state, ...common };
    if (row.answer === undefined) throw new RecordUnreadable();
    return { state, ...common, answer: copyOf(row.answer) };
  }

  #summary(row: Row): RecordSummary {
    const { id: _id, ...names } = row.identity;
    return {
      state: this.#standing(row),
      ...names,
      attempt: row.attempt,
      steps: [...row.steps.keys()],
      createdAt: this.#date(row.createdAt),
      ...(row.status !== undefined && { status: row.status }),
      ...(row.completedAt !== undefined && { completedAt: this.#date(row.completedAt) }),
      ...(row.lockedUntil !== undefined && { lockedUntil: this.#date(row.lockedUntil) }),
      ...(row.expiresAt !== undefined && { expiresAt: this.#date(row.expiresAt) }),
    };
  }

  #date(instant: number): Date {
    return new Date(this.#epoch + instant);
  }
}

/** Whoever gave it, or gets it, may write into it later. */
function copyOf({ status, headers, body }: RecordedResponse): RecordedResponse {
  const fields = headers.map(([name, value]) => [name, typeof value === 'string' ? value : [...value]] as const);
  return { status, headers: fields, body: Buffer.from(body) };
}
