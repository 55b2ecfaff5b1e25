/** From rows to the contract's types. What does not look like a record of ours is refused, never guessed at. */
import { RecordUnreadable } from '../contract/errors.js';
import type { FoundRecord, Identity, RecordedStep, RecordState, RecordSummary, StoreStats } from '../contract/record.js';
import type { RecordedHeaders, RecordedResponse } from '../contract/recorded-response.js';
import type { ConnectionLimit } from '../contract/store.js';

/** What every look at a row tells. `standing` is null when the state is one that this version does not know. */
export interface StandingRow {
  readonly standing: RecordState | null;
  readonly expired: boolean;
}

export interface RecordRow extends StandingRow {
  readonly owner: string;
  readonly attempt: number;
  readonly status: number | null;
  readonly lease_left_ms: number | null;
  readonly retention_left_ms: number;
  /** These three in base64. */
  readonly fingerprint: string;
  readonly headers: string | null;
  readonly body: string | null;
}

/** Whether scope, operation and key are those that were asked for; the row was found by their digest. */
interface Agreement {
  readonly agrees: boolean;
}

export interface ClaimRow extends RecordRow, Agreement {
  readonly claimed: boolean;
}

/** The last two tell of a scope that has as many live records as it may, where this key would be one more. */
export interface LimitedClaimRow extends ClaimRow {
  readonly is_full: boolean;
  readonly frees_in_ms: number | null;
}

/** Of a record that stood there, `n` says whose way it stood in, from 1; of one that was made, the owner does. */
export interface SharedClaimRow extends ClaimRow {
  readonly n: number | null;
}

export interface SummaryRow extends StandingRow, Agreement {
  readonly attempt: number;
  readonly status: number | null;
  /** Milliseconds since 1970. */
  readonly created_at: number;
  readonly completed_at: number | null;
  readonly locked_until: number | null;
  readonly expires_at: number | null;
  /** A JSON array of names, oldest first; `null` for none. */
  readonly steps: string | null;
}

export interface StepRow {
  readonly name: string;
  /** In base64. */
  readonly result: string;
}

export type KeyRow = Identity;

export type RemovedRow = Pick<StandingRow, 'expired'>;

/** Operation and key are there where the row is wanted. */
export interface PageRow {
  readonly id: string;
  readonly wanted: boolean;
  readonly apart: boolean;
  readonly operation: string;
  readonly key: string;
}

export interface ExpiredRow {
  readonly id: string;
  readonly has_steps: boolean;
}

/** A record whose lease has passed. */
export interface LapsedRow {
  readonly id: string;
  readonly locked_until: number;
}

/** The process that serves the statement, and how many connections there may be; -1: any number. */
export interface ConnectionsRow {
  readonly backend: number;
  readonly server_connections: number;
  readonly database_connections: number;
  readonly role_connections: number;
}

export interface StatsRow extends Omit<StoreStats, 'oldestLost'> {
  readonly oldest_lost: number | null;
}

export function assertAgrees(row: Agreement): void {
  if (!row.agrees) throw new RecordUnreadable();
}

export function foundRecord(row: RecordRow): FoundRecord {
  const common = {
    fingerprint: Buffer.from(row.fingerprint, 'base64'),
    owner: row.owner,
    attempt: row.attempt,
    retentionLeftMs: row.retention_left_ms,
  };
  switch (row.standing) {
    case 'running':
      return { state: 'running', ...common, leaseLeftMs: Math.max(0, row.lease_left_ms ?? 0) };
    case 'completed':
      return { state: 'completed', ...common, answer: recordedResponse(row) };
    case 'lost':
    case 'sealed':
    case 'open':
      return { state: row.standing, ...common };
    case null:
      throw new RecordUnreadable();
  }
}

function recordedResponse({ status, headers, body }: RecordRow): RecordedResponse {
  if (status === null || headers === null || body === null) throw new RecordUnreadable();
  return { status, headers: readHeaders(Buffer.from(headers, 'base64')), body: Buffer.from(body, 'base64') };
}

/** JSON in UTF-8: arrays stay arrays, and a later version may put something sealed in its place. */
export function writeHeaders(headers: RecordedHeaders): Buffer {
  return Buffer.from(JSON.stringify(headers));
}

export function readHeaders(bytes: Buffer): RecordedHeaders {
  const headers = parse(bytes);
  if (!isRecordedHeaders(headers)) throw new RecordUnreadable();
  return headers;
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw new RecordUnreadable(); // without the cause, whose message quotes the header values
  }
}

function isRecordedHeaders(value: unknown): value is RecordedHeaders {
  return (
    Array.isArray(value) && value.every((field) => Array.isArray(field) && field.length === 2 && isText(field[0]) && isFieldValue(field[1]))
  );
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isFieldValue = (value: unknown): boolean => isText(value) || (Array.isArray(value) && value.every(isText));

export function recordedStep({ name, result }: StepRow): RecordedStep {
  return { name, result: Buffer.from(result, 'base64') };
}

export function recordSummary(row: SummaryRow, { scope, operation, key }: Identity): RecordSummary {
  if (row.standing === null) throw new RecordUnreadable();
  return {
    state: row.standing,
    scope,
    operation,
    key,
    attempt: row.attempt,
    steps: row.steps === null ? [] : (JSON.parse(row.steps) as string[]),
    createdAt: new Date(row.created_at),
    ...(row.status !== null && { status: row.status }),
    ...(row.completed_at !== null && { completedAt: new Date(row.completed_at) }),
    ...(row.locked_until !== null && { lockedUntil: new Date(row.locked_until) }),
    ...(row.expires_at !== null && { expiresAt: new Date(row.expires_at) }),
  };
}

/** @param backend as the connection was told: who is served by another one has a pooler before him */
export function connectionLimit(row: ConnectionsRow, backend: number | undefined): ConnectionLimit | undefined {
  if (row.backend !== backend) return undefined;
  const limits: readonly ConnectionLimit[] = [
    { of: 'role', connections: row.role_connections },
    { of: 'database', connections: row.database_connections },
    { of: 'server', connections: row.server_connections },
  ];
  return limits
    .filter(({ connections }) => connections >= 0)
    .reduce((least, limit) => (limit.connections < least.connections ? limit : least));
}

/** `held`: those of them whose transaction lives. They are running, and their lease says nothing. */
export function storeStats(
  { oldest_lost: oldest, ...counts }: StatsRow,
  lapsed: readonly LapsedRow[],
  held: ReadonlySet<string>,
): StoreStats {
  const lost = Math.max(0, counts.lost - held.size);
  const free = lapsed.filter(({ id }) => !held.has(id)).map(({ locked_until }) => locked_until);
  const oldestLost = lapsed.length < counts.lost || held.size === 0 ? oldest : Math.min(...free);
  return {
    ...counts,
    running: counts.running + held.size,
    lost,
    ...(lost > 0 && oldestLost !== null && { oldestLost: new Date(oldestLost) }),
  };
}
