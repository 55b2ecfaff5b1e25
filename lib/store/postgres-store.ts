/**
 * The store in Postgres: which statements keep each promise of `IdempotencyStore`, and what their
 * answers mean. How a statement decides is in statements.ts, how it gets there in pg-session.ts.
 */
import type { PoolConfig } from 'pg';
import { systemClock, type Clock } from '../contract/clock.js';
import { SchemaMissing, SchemaOutdated, StoreUnavailable } from '../contract/errors.js';
import type { Claim, ClaimResult, FoundRecord, Identity, Ownership, RecordSummary, Settled, StoreStats } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { IdempotencyStore, Lease, StoreFindings } from '../contract/store.js';
import { PgSession } from './pg-session.js';
import { assertAgrees, foundRecord, recordSummary, storeStats, writeHeaders } from './rows.js';
import type { ClaimRow, RecordRow, StandingRow, StatsRow, SummaryRow } from './rows.js';
import { deadlineIn, type Answer, type Deadline, type Session, type Statement } from './session.js';
import { statements } from './statements.js';
import { tablesIn } from './table-name.js';
import { fits, type ShapeRow } from './table-shape.js';

export interface PostgresStoreOptions {
  /** Where and as whom: see `poolConfigOf` and `poolConfigOfPool`. */
  readonly connection: PoolConfig;
  readonly schema: string;
  readonly poolSize: number;
  readonly preparedStatements: boolean;
  /** Longest wait for one statement where the caller names none, and for a new connection. */
  readonly storeTimeoutMs: number;
  readonly clock?: Clock;
  /** Told the name of every statement that is sent. */
  readonly onStatement?: (name: string) => void;
}

/**
 * A claim starts over when the record it met is gone or somebody else's by the time it is acted
 * on. That needs another request to win within the same millisecond each time; more than a few in
 * a row would be a fault, not bad luck.
 */
const CLAIM_ROUNDS = 5;

/** Below every digest, but for one in 2^128. */
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

export function createPostgresStore(options: PostgresStoreOptions): PostgresStore {
  const { connection, schema, poolSize, preparedStatements, storeTimeoutMs, clock = systemClock, onStatement } = options;
  const session = new PgSession({ connection, poolSize, preparedStatements, connectTimeoutMs: storeTimeoutMs, clock, onStatement });
  return new PostgresStore(session, schema, storeTimeoutMs, clock);
}

export class PostgresStore implements IdempotencyStore {
  private readonly table: string;
  private readonly sql: ReturnType<typeof statements>;

  constructor(
    private readonly session: Session,
    schema: string,
    private readonly storeTimeoutMs: number,
    private readonly clock: Clock,
  ) {
    const tables = tablesIn(schema);
    this.table = tables.records;
    this.sql = statements(tables);
  }

  async claim(claim: Claim, withinMs: number): Promise<ClaimResult> {
    const deadline = deadlineIn(this.clock, withinMs);
    for (let round = 0; round < CLAIM_ROUNDS; round += 1) {
      const row = await this.insertOrLook(claim, deadline);
      if (row === undefined) continue; // somebody else's insert came first; it can be seen now, unless it is gone again
      if (row.claimed) return { kind: 'claimed', attempt: row.attempt };
      assertAgrees(row);
      if (isHeldBy(claim, row)) return { kind: 'claimed', attempt: row.attempt };
      if (!row.expired) return { kind: 'found', record: foundRecord(row) };
      if (await this.takeExpired(claim, deadline)) return { kind: 'claimed', attempt: 1 };
    }
    throw new StoreUnavailable({ cause: new Error(`The record changed hands ${CLAIM_ROUNDS} times while it was being claimed.`) });
  }

  private insertOrLook(claim: Claim, deadline: Deadline): Promise<ClaimRow | undefined> {
    const { scope, operation, key } = claim.identity;
    const statement = claim.durable ? this.sql.claim : this.sql.claimUnflushed;
    return this.one<ClaimRow>(
      statement,
      [claim.id, scope, operation, key, claim.fingerprint, claim.owner, claim.leaseMs, claim.retentionMs],
      deadline,
    );
  }

  private async takeExpired(claim: Claim, deadline: Deadline): Promise<boolean> {
    const values = [claim.id, claim.fingerprint, claim.owner, claim.leaseMs, claim.retentionMs];
    return (await this.session.run(this.sql.takeExpired, values, deadline)).count === 1;
  }

  async takeOver(claim: Claim, from: FoundRecord, withinMs: number): Promise<{ readonly attempt: number } | undefined> {
    const deadline = deadlineIn(this.clock, withinMs);
    const taken = await this.one<{ readonly attempt: number }>(
      this.sql.takeOver,
      [claim.id, from.owner, claim.owner, claim.leaseMs],
      deadline,
    );
    if (taken !== undefined) return taken;
    const row = await this.successor(claim.id, deadline);
    return row !== undefined && isHeldBy(claim, row) ? { attempt: row.attempt } : undefined;
  }

  complete(ownership: Ownership, answer: RecordedResponse, retentionMs: number, withinMs: number): Promise<Settled> {
    const { status, headers, body } = answer;
    return this.settle(ownership, this.sql.complete, [status, writeHeaders(headers), body, retentionMs], withinMs);
  }

  seal(ownership: Ownership, status: number | undefined, retentionMs: number, withinMs: number): Promise<Settled> {
    return this.settle(ownership, this.sql.seal, [status, retentionMs], withinMs);
  }

  private async settle({ id, owner }: Ownership, statement: Statement, values: readonly unknown[], withinMs: number): Promise<Settled> {
    const deadline = deadlineIn(this.clock, withinMs);
    const { count } = await this.session.run(statement, [id, owner, ...values], deadline);
    if (count === 1) return { kind: 'settled' };

    const row = await this.successor(id, deadline);
    if (row?.owner === owner && isSettled(row)) return { kind: 'settled' }; // by us, in a call whose answer was lost
    return { kind: 'superseded', record: row === undefined || row.expired ? undefined : foundRecord(row) };
  }

  private successor(id: string, deadline: Deadline): Promise<RecordRow | undefined> {
    return this.one<RecordRow>(this.sql.successor, [id], deadline);
  }

  async release({ id, owner }: Ownership, withinMs: number): Promise<boolean> {
    return (await this.session.run(this.sql.release, [id, owner], deadlineIn(this.clock, withinMs))).count === 1;
  }

  async renew(leases: readonly Lease[], withinMs: number): Promise<readonly string[]> {
    if (leases.length === 0) return [];
    const columns = [leases.map(({ id }) => id), leases.map(({ owner }) => owner), leases.map(({ leaseMs }) => leaseMs)];
    const { rows } = await this.session.run<{ readonly id: string }>(this.sql.renew, columns, deadlineIn(this.clock, withinMs));
    return rows.map(({ id }) => id);
  }

  async find(identity: Identity): Promise<RecordSummary | undefined> {
    const row = await this.summary(identity);
    return row === undefined || row.expired ? undefined : recordSummary(row, identity);
  }

  async forget(identity: Identity): Promise<'removed' | 'absent' | 'live'> {
    const { id, scope, operation, key } = identity;
    const removed = await this.one<Pick<StandingRow, 'expired'>>(this.sql.forget, [id, scope, operation, key], this.patience());
    if (removed !== undefined) return removed.expired ? 'absent' : 'removed';
    return (await this.summary(identity)) === undefined ? 'absent' : 'live';
  }

  private async summary({ id, scope, operation, key }: Identity): Promise<SummaryRow | undefined> {
    const row = await this.one<SummaryRow>(this.sql.find, [id, scope, operation, key], this.patience());
    if (row !== undefined) assertAgrees(row);
    return row;
  }

  async forgetScope(scope: string, batch: number): Promise<number> {
    let removed = 0;
    for (let after: string | undefined = BEFORE_ALL; after !== undefined;) {
      const page: Answer<PageRow> = await this.session.run<PageRow>(this.sql.pageOfRecords, [after, scope, batch], this.patience());
      const ids = page.rows.filter(({ wanted }) => wanted).map(({ id }) => id);
      if (ids.length > 0) removed += (await this.session.run(this.sql.forgetPage, [ids, scope], this.patience())).count;
      after = page.rows.at(-1)?.id;
    }
    return removed;
  }

  async stats(): Promise<StoreStats> {
    const { rows } = await this.session.run<StatsRow>(this.sql.stats, [], this.patience());
    return storeStats(rows[0]!);
  }

  async reap(batch: number): Promise<number> {
    return (await this.session.run(this.sql.reap, [batch], this.patience())).count;
  }

  async inspect(): Promise<StoreFindings> {
    const { rows } = await this.session.run<ShapeRow>(this.sql.inspect, [this.table], this.patience());
    const { columns, unique_id, synchronous_commit } = rows[0]!;
    if (columns === null) throw new SchemaMissing(this.table);
    if (!fits({ columns, unique_id })) throw new SchemaOutdated(this.table);
    return { synchronousCommit: synchronous_commit };
  }

  close(): Promise<void> {
    return this.session.close();
  }

  private async one<Row>(statement: Statement, values: readonly unknown[], deadline: Deadline): Promise<Row | undefined> {
    const answer: Answer<Row> = await this.session.run<Row>(statement, values, deadline);
    return answer.rows[0];
  }

  private patience(): Deadline {
    return deadlineIn(this.clock, this.storeTimeoutMs);
  }
}

interface PageRow {
  readonly id: string;
  readonly wanted: boolean;
}

/** An earlier sending of the same claim got through and its answer did not: nobody else can have this token. */
function isHeldBy({ owner }: Claim, row: RecordRow): boolean {
  return row.owner === owner && (row.standing === 'running' || row.standing === 'lost');
}

function isSettled({ standing }: StandingRow): boolean {
  return standing === 'completed' || standing === 'sealed';
}
