/**
 * The store in Postgres: which statements keep each promise of `IdempotencyStore`, and what their
 * answers mean. How a statement decides is in statements.ts, how it gets there in pg-session.ts, and
 * the application's own transactions are in transactions.ts.
 */
import { randomUUID } from 'node:crypto';
import type { PoolConfig } from 'pg';
import { systemClock, type Clock } from '../contract/clock.js';
import { LiveKeysIndexMissing, StoreUnavailable } from '../contract/errors.js';
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
import type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';
import type { IdempotencyStore, Lease, StoreFindings, StoreNeeds } from '../contract/store.js';
import type { RecordTransaction, TransactionSettings } from '../contract/transaction.js';
import { floatArray, plainArray } from './arrays.js';
import { HeldRows } from './held-rows.js';
import { Notifications } from './notifications.js';
import { PgSession } from './pg-session.js';
import { DIVISION_BY_ZERO, codeOf } from './postgres-error.js';
import {
  claimValues,
  completionOf,
  completionValues,
  isSmall,
  LONGEST_QUEUE,
  sharedWrites,
  type Completion,
  type SharedWrites,
} from './shared-writes.js';
import { assertAgrees, connectionLimit, foundRecord, readHeaders, recordedStep, recordSummary, storeStats, writeHeaders } from './rows.js';
import type { ClaimRow, LimitedClaimRow, PageRow, RecordRow, RemovedRow, StandingRow, SummaryRow } from './rows.js';
import { deadlineIn, type Answer, type Deadline, type Session, type Statement, type Value } from './session.js';
import { statements, type Statements } from './statements.js';
import { tablesIn, type Tables } from './table-name.js';
import { assertFits } from './table-shape.js';
import { Transactions, type Application } from './transactions.js';

export type { Application };

export interface PostgresStoreOptions {
  /** Where and as whom: see `poolConfigOf` and `poolConfigOfPool`. */
  readonly connection: PoolConfig;
  /** Whose connections handlers' transactions are made on. */
  readonly application: Application;
  readonly schema: string;
  readonly poolSize: number;
  readonly preparedStatements: boolean;
  /** Whether requests that come in the same moment go to Postgres in one statement. */
  readonly sharedStatements: boolean;
  /** Longest wait for one statement where the caller names none, and for a new connection. */
  readonly storeTimeoutMs: number;
  readonly clock?: Clock;
  /** Told the name of every statement that is sent. */
  readonly onStatement?: (name: string) => void;
}

/**
 * Something starts over when the record it met is gone or somebody else's by the time it is acted
 * on. That needs another request to win within the same millisecond each time; more than a few in
 * a row would be a fault, not bad luck.
 */
const ROUNDS = 5;

const CHANGED_HANDS = `The record changed hands ${ROUNDS} times while it was being claimed.`;

/** Below every digest, but for one in 2^128. */
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

/** How many lapsed records `stats` looks at one by one. Handlers in transactions are the latest of them, and no process has that many. */
const LAPSED_LOOKED_AT = 1000;

export function createPostgresStore(options: PostgresStoreOptions): PostgresStore {
  const { connection, application, schema, poolSize, preparedStatements, sharedStatements, storeTimeoutMs, onStatement } = options;
  const { clock = systemClock } = options;
  const ours = { connection, preparedStatements, connectTimeoutMs: storeTimeoutMs, clock, onStatement };
  const session = new PgSession({ ...ours, poolSize });
  const notifications = new Notifications({ ...ours, sql: statements(tablesIn(schema)), isSharded: !sharedStatements });
  const common = { application, schema, preparedStatements, sharedStatements, storeTimeoutMs, clock, onStatement };
  return new PostgresStore({ session, notifications, ...common });
}

export interface PostgresStoreParts extends Pick<
  PostgresStoreOptions,
  'application' | 'schema' | 'preparedStatements' | 'sharedStatements' | 'storeTimeoutMs' | 'onStatement'
> {
  readonly session: Session;
  readonly notifications: Pick<Notifications, 'listen' | 'isListening' | 'close'>;
  readonly clock: Clock;
}

export class PostgresStore implements IdempotencyStore {
  private readonly session: Session;
  private readonly notifications: PostgresStoreParts['notifications'];
  private readonly clock: Clock;
  private readonly storeTimeoutMs: number;
  private readonly tables: Tables;
  private readonly sql: Statements;
  private readonly held = new HeldRows();
  private readonly transactions: Transactions;
  /** `undefined` where each request has a statement of its own. */
  private readonly shared: SharedWrites | undefined;

  constructor(parts: PostgresStoreParts) {
    const { session, notifications, application, schema, storeTimeoutMs, clock, onStatement } = parts;
    const { preparedStatements, sharedStatements } = parts;
    this.session = session;
    this.notifications = notifications;
    this.clock = clock;
    this.storeTimeoutMs = storeTimeoutMs;
    this.tables = tablesIn(schema);
    this.sql = statements(this.tables);
    this.shared = sharedStatements ? sharedWrites(session, this.sql, clock) : undefined;
    this.transactions = new Transactions({ application, sql: this.sql, held: this.held, clock, preparedStatements, onStatement });
  }

  claim(claim: Claim, withinMs: number): Promise<ClaimResult> {
    const deadline = deadlineIn(this.clock, withinMs);
    return this.insertOrLook(claim, deadline).then((row) => this.claimResult(claim, row) ?? this.claimAgain(claim, row, deadline));
  }

  /** `undefined` where the key is free after all, or nobody knows. */
  private claimResult(claim: Claim, row: ClaimRow | LimitedClaimRow | undefined): ClaimResult | undefined {
    if (row === undefined) return undefined; // somebody else's insert came first; it can be seen now, unless it is gone again
    if (row.claimed) return { kind: 'claimed', attempt: row.attempt };
    if (isOverLimit(row)) return { kind: 'over-limit', freesInMs: row.frees_in_ms ?? undefined };
    assertAgrees(row);
    if (isHeldBy(claim, row)) return { kind: 'claimed', attempt: row.attempt };
    return row.expired ? undefined : { kind: 'found', record: foundRecord(row) };
  }

  private async claimAgain(claim: Claim, first: ClaimRow | LimitedClaimRow | undefined, deadline: Deadline): Promise<ClaimResult> {
    let row = first;
    for (let round = 1; ; round += 1) {
      if (row !== undefined && (await this.takeExpired(claim, deadline))) return { kind: 'claimed', attempt: 1 };
      if (round === ROUNDS) throw new StoreUnavailable({ cause: new Error(CHANGED_HANDS) });
      row = await this.insertOrLook(claim, deadline);
      const result = this.claimResult(claim, row);
      if (result !== undefined) return result;
    }
  }

  private insertOrLook(claim: Claim, deadline: Deadline): Promise<ClaimRow | LimitedClaimRow | undefined> {
    const { claim: durable, claimUnflushed, claimWithin, claimWithinUnflushed } = this.sql;
    if (claim.maxLiveKeys !== undefined) {
      const values = [...claimValues(claim), claim.maxLiveKeys];
      return this.one(claim.durable ? claimWithin : claimWithinUnflushed, values, deadline);
    }
    if (this.shared !== undefined) return this.shared[claim.durable ? 'claims' : 'unflushedClaims'].run(claim, deadline);
    return this.one(claim.durable ? durable : claimUnflushed, claimValues(claim), deadline);
  }

  private async takeExpired(claim: Claim, deadline: Deadline): Promise<boolean> {
    const values = [claim.id, claim.fingerprint, claim.owner, claim.leaseMs, claim.retentionMs, LONGEST_QUEUE];
    try {
      return (await this.session.run(this.sql.takeExpired, values, deadline)).count === 1;
    } catch (error) {
      if (causeOf(error) === LOCK_NOT_AVAILABLE) return false; // somebody was faster, and is at work by now
      throw error;
    }
  }

  async takeOver(claim: Claim, from: FoundRecord, withinMs: number): Promise<TakeOverResult> {
    const deadline = deadlineIn(this.clock, withinMs);
    const values = [claim.id, from.owner, claim.owner, claim.leaseMs];
    const taken = await this.one(this.sql.takeOver, values, deadline);
    if (taken !== undefined) return { kind: 'taken', attempt: taken.attempt };
    const row = await this.successor(claim.id, deadline);
    if (row !== undefined && isHeldBy(claim, row)) return { kind: 'taken', attempt: row.attempt };
    return { kind: row !== undefined && isAsFound(from, row) ? 'held' : 'changed' };
  }

  complete(ownership: Ownership, answer: RecordedResponse, retentionMs: number, withinMs: number): Promise<Settled> {
    const completion = completionOf(ownership, answer, retentionMs);
    const deadline = deadlineIn(this.clock, withinMs);
    if (this.shared === undefined || !isSmall(completion)) return this.completeAlone(completion, deadline);
    return this.shared.completions.run(completion, deadline).then((kept) => (kept ? SETTLED : this.completeAlone(completion, deadline)));
  }

  private completeAlone(completion: Completion, deadline: Deadline): Promise<Settled> {
    return this.settle(completion, this.sql.complete, completionValues(completion), deadline);
  }

  seal(ownership: Ownership, status: number | undefined, retentionMs: number, withinMs: number): Promise<Settled> {
    return this.settle(ownership, this.sql.seal, [ownership.id, ownership.owner, status, retentionMs], deadlineIn(this.clock, withinMs));
  }

  private async settle({ id, owner }: Ownership, statement: Statement, values: readonly Value[], deadline: Deadline): Promise<Settled> {
    const { count } = await this.session.run(statement, values, deadline);
    if (count === 1) return SETTLED;

    const row = await this.successor(id, deadline);
    if (row?.owner === owner && isSettled(row)) return SETTLED; // by us, in a call whose answer was lost
    return { kind: 'superseded', record: row === undefined || row.expired ? undefined : foundRecord(row) };
  }

  private successor(id: string, deadline: Deadline): Promise<RecordRow | undefined> {
    return this.one(this.sql.successor, [id], deadline);
  }

  async release({ id, owner }: Ownership, retentionMs: number, withinMs: number): Promise<Released> {
    const row = await this.one(this.sql.release, [id, owner, retentionMs], deadlineIn(this.clock, withinMs));
    return row?.released ?? 'absent';
  }

  async steps({ id, owner }: Ownership, withinMs: number): Promise<readonly RecordedStep[]> {
    const { rows } = await this.session.run(this.sql.steps, [id, owner], deadlineIn(this.clock, withinMs));
    return rows.map(recordedStep);
  }

  async recordStep({ id, owner }: Ownership, { name, result }: RecordedStep, withinMs: number): Promise<boolean> {
    return (await this.session.run(this.sql.recordStep, [id, owner, name, result], deadlineIn(this.clock, withinMs))).count === 1;
  }

  async flush({ id, owner }: Ownership, withinMs: number): Promise<boolean> {
    return (await this.session.run(this.sql.flush, [id, owner], deadlineIn(this.clock, withinMs))).count === 1;
  }

  transaction(ownership: Ownership, settings: TransactionSettings): Promise<RecordTransaction | undefined> {
    return this.transactions.open(ownership, settings);
  }

  /**
   * Completed, sealed or open under its own token: the transaction came through. Running: it did not.
   * No row under that token can't come of an answer, which stays for its retention; then either
   * nothing came through and somebody has the key since, or the key was given back, and what is left
   * to do is the same: nothing.
   */
  async outcomeOf({ id, owner }: Ownership, withinMs: number, step?: string): Promise<'committed' | 'rolled-back' | undefined> {
    const deadline = deadlineIn(this.clock, withinMs);
    const values = [id, owner, `${Math.max(1, Math.floor(withinMs * LOCKS_SHARE))}ms`];
    const asked =
      step === undefined ? { statement: this.sql.outcome, values } : { statement: this.sql.outcomeOfStep, values: [...values, step] };
    try {
      const row = await this.one(asked.statement, asked.values, deadline);
      if (row === undefined) return step === undefined ? 'rolled-back' : undefined;
      return row.settled ? 'committed' : 'rolled-back';
    } catch (error) {
      const code = causeOf(error);
      if (code === LOCK_NOT_AVAILABLE) return undefined;
      if (code === DIVISION_BY_ZERO) return 'rolled-back';
      throw error;
    }
  }

  async renew(leases: readonly Lease[], withinMs: number): Promise<readonly string[]> {
    const held = leases.filter(({ owner }) => this.held.has(owner));
    const due = leases.filter((lease) => !held.includes(lease));
    const renewed =
      due.length === 0
        ? []
        : await this.held.renewing(
            due.map(({ owner }) => owner),
            this.prolong(due, deadlineIn(this.clock, withinMs)),
          );
    return [...held.map(({ id }) => id), ...renewed];
  }

  private async prolong(leases: readonly Lease[], deadline: Deadline): Promise<readonly string[]> {
    const { owned, passedBy } = this.shared === undefined ? { owned: [], passedBy: leases } : await this.prolongTogether(leases, deadline);
    for (const lease of passedBy) if (await this.prolongOne(lease, deadline)) owned.push(lease.id);
    return owned;
  }

  private async prolongTogether(leases: readonly Lease[], deadline: Deadline): Promise<{ owned: string[]; passedBy: readonly Lease[] }> {
    const columns = [
      plainArray(leases.map(({ id }) => id)),
      plainArray(leases.map(({ owner }) => owner)),
      floatArray(leases.map(({ leaseMs }) => leaseMs)),
      leases.length,
    ];
    const { rows } = await this.session.run(this.sql.renew, columns, deadline);
    const renewed = new Map(rows.map((row) => [row.id, row.renewed]));
    return {
      owned: leases.map(({ id }) => id).filter((id) => renewed.get(id) === true),
      passedBy: leases.filter(({ id }) => renewed.get(id) === false),
    };
  }

  /** Whoever holds its row for long keeps others from taking it over as well: the lease is not lost by that, and renewed some other time. */
  private async prolongOne({ id, owner, leaseMs }: Lease, deadline: Deadline): Promise<boolean> {
    try {
      return (await this.session.run(this.sql.renewOne, [id, owner, leaseMs, LONGEST_QUEUE], deadline)).count === 1;
    } catch (error) {
      if (causeOf(error) === LOCK_NOT_AVAILABLE) return true;
      throw error;
    }
  }

  listen(id: string, onHint: () => void, onReliance?: (relies: boolean) => void): () => void {
    return this.notifications.listen(id, onHint, onReliance);
  }

  isListening(): boolean {
    return this.notifications.isListening();
  }

  async find(identity: Identity): Promise<RecordSummary | undefined> {
    const row = await this.summary(identity);
    return row === undefined || row.expired ? undefined : recordSummary(row, identity);
  }

  /**
   * The answer of a completed record, for an operator who asks for it.
   *
   * @throws RecordUnreadable for what is no answer of ours
   */
  async answer(identity: Identity): Promise<RecordedResponse | undefined> {
    const row = await this.successor(identity.id, this.patience());
    if (row === undefined || row.expired) return undefined;
    const record = foundRecord(row);
    return record.state === 'completed' ? record.answer : undefined;
  }

  /** Lost records, the oldest first; `most` of those whose lease has passed are looked at. */
  async lost(most: number): Promise<readonly RecordSummary[]> {
    const { rows } = await this.session.run(this.sql.lapsedKeys, [most], this.patience());
    const found: RecordSummary[] = [];
    for (const identity of rows) {
      const record = await this.find(identity);
      if (record?.state === 'lost') found.push(record);
    }
    return found;
  }

  /** Of at most `most` answers, the newest first. */
  async newestHeaders(most: number): Promise<readonly RecordedHeaders[]> {
    const { rows } = await this.session.run(this.sql.newestHeaders, [most], this.patience());
    return rows.map(({ headers }) => readHeaders(Buffer.from(headers, 'base64')));
  }

  async resolve(
    identity: Identity,
    answer: RecordedResponse | undefined,
    retentionMs: number,
  ): Promise<'resolved' | 'absent' | 'live' | 'completed'> {
    for (let round = 0; round < ROUNDS; round += 1) {
      if (await this.settleByHand(identity, answer, retentionMs)) return 'resolved';
      const row = await this.summary(identity);
      if (row === undefined || row.expired) return 'absent';
      if (row.standing === 'running') return 'live';
      if (row.standing === 'completed') return 'completed';
    }
    return 'live'; // lost by its lease, but somebody is writing to it
  }

  private async settleByHand(
    { id, scope, operation, key }: Identity,
    answer: RecordedResponse | undefined,
    retentionMs: number,
  ): Promise<boolean> {
    const names = [id, scope, operation, key];
    if (answer === undefined) return (await this.session.run(this.sql.freeByHand, names, this.patience())).count === 1;
    const values = [...names, randomUUID(), answer.status, writeHeaders(answer.headers), answer.body, retentionMs];
    return (await this.session.run(this.sql.answerByHand, values, this.patience())).count === 1;
  }

  async forget(identity: Identity): Promise<'removed' | 'absent' | 'live'> {
    for (let round = 0; round < ROUNDS; round += 1) {
      const removed = await this.remove(identity);
      if (removed !== undefined) return removed.expired ? 'absent' : 'removed';
      const row = await this.summary(identity);
      if (row === undefined) return 'absent';
      if (row.standing === 'running') return 'live';
    }
    return 'live'; // lost by its lease, but somebody is writing to it
  }

  private remove({ id, scope, operation, key }: Identity): Promise<RemovedRow | undefined> {
    return this.one(this.sql.forget, [id, scope, operation, key], this.patience());
  }

  private async summary({ id, scope, operation, key }: Identity): Promise<SummaryRow | undefined> {
    const row = await this.one(this.sql.find, [id, scope, operation, key], this.patience());
    if (row !== undefined) assertAgrees(row);
    return row;
  }

  async forgetScope(scope: string, batch: number): Promise<number> {
    let removed = 0;
    for (let after: string | undefined = BEFORE_ALL; after !== undefined;) {
      const page: Answer<PageRow> = await this.session.run(this.sql.pageOfRecords, [after, scope, batch], this.patience());
      const wanted = page.rows.filter((row) => row.wanted);
      const ids = wanted.filter(({ apart }) => !apart).map(({ id }) => id);
      if (ids.length > 0) removed += (await this.session.run(this.sql.forgetPage, [plainArray(ids), scope], this.patience())).count;
      for (const { id, operation, key } of wanted.filter(({ apart }) => apart)) {
        if ((await this.remove({ id, scope, operation, key })) !== undefined) removed += 1;
      }
      after = page.rows.at(-1)?.id;
    }
    return removed;
  }

  async stats(): Promise<StoreStats> {
    const { rows } = await this.session.run(this.sql.stats, [], this.patience());
    const counts = rows[0]!;
    if (counts.lost === 0) return storeStats(counts, [], new Set());
    const lapsed = await this.session.run(this.sql.lapsed, [LAPSED_LOOKED_AT], this.patience());
    const held = new Set<string>();
    for (const { id } of lapsed.rows) {
      if ((await this.session.run(this.sql.isLost, [id], this.patience())).count === 0) held.add(id);
    }
    return storeStats(counts, lapsed.rows, held);
  }

  async reap(batch: number): Promise<number> {
    const { rows } = await this.session.run(this.sql.pageOfExpired, [batch], this.patience());
    if (rows.length === 0) return 0;
    const withSteps = rows.filter((row) => row.has_steps).map(({ id }) => id);
    if (withSteps.length > 0) await this.session.run(this.sql.reapSteps, [plainArray(withSteps)], this.patience());
    return (await this.session.run(this.sql.reap, [plainArray(rows.map(({ id }) => id))], this.patience())).count;
  }

  async inspect(needs?: StoreNeeds): Promise<StoreFindings> {
    const tables = [this.tables.records, this.tables.steps];
    const { rows, backend } = await this.session.run(this.sql.inspect, tables, this.patience());
    const found = rows[0]!;
    assertFits(found, this.tables);
    if (needs?.maxLiveKeys) await this.assertCountable();
    return { synchronousCommit: found.synchronous_commit, connectionLimit: connectionLimit(found, backend) };
  }

  private async assertCountable(): Promise<void> {
    const { count } = await this.session.run(this.sql.liveKeysIndex, [this.tables.records], this.patience());
    if (count === 0) throw new LiveKeysIndexMissing(this.tables.records);
  }

  async close(): Promise<void> {
    await Promise.all([this.transactions.close(), this.notifications.close(), this.session.close()]);
  }

  private async one<Row>(statement: Statement<Row>, values: readonly Value[], deadline: Deadline): Promise<Row | undefined> {
    return (await this.session.run(statement, values, deadline)).rows[0];
  }

  private patience(): Deadline {
    return deadlineIn(this.clock, this.storeTimeoutMs);
  }
}

const SETTLED: Settled = { kind: 'settled' };

/** So that Postgres gives up waiting for a lock shortly before we give up waiting for Postgres, which would cost a connection. */
const LOCKS_SHARE = 0.9;
const LOCK_NOT_AVAILABLE = '55P03';

/** Postgres' own code of what made the store fail, if it was Postgres. */
function causeOf(error: unknown): unknown {
  return error instanceof StoreUnavailable ? codeOf(error.cause) : undefined;
}

/** An earlier sending of the same claim got through and its answer did not: nobody else can have this token. */
function isHeldBy({ owner }: Claim, row: RecordRow): boolean {
  return row.owner === owner && (row.standing === 'running' || row.standing === 'lost');
}

function isOverLimit(row: ClaimRow | LimitedClaimRow): row is LimitedClaimRow {
  return 'is_full' in row && row.is_full;
}

function isSettled({ standing }: StandingRow): boolean {
  return standing === 'completed' || standing === 'sealed';
}

/** Nothing has changed since a claim found it, and yet it could not be taken. */
function isAsFound(from: FoundRecord, { owner, standing, expired, lease_left_ms: leaseLeftMs }: RecordRow): boolean {
  if (owner !== from.owner) return false;
  return from.state === 'open'
    ? standing === 'open' && !expired
    : standing === 'lost' || (standing === 'running' && (leaseLeftMs ?? 0) <= 0);
}
