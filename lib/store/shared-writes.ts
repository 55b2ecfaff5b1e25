/**
 * Which statements of the store are shared between requests, and how many rows become one statement's
 * values: claims by whether their commit waits for the disk, and completions of small answers.
 */
import type { Clock } from '../contract/clock.js';
import type { Claim, Ownership } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { byteaArray, floatArray, plainArray, textArray } from './arrays.js';
import { writeHeaders, type ClaimRow } from './rows.js';
import type { Session, Value } from './session.js';
import { SharedStatement } from './shared-statement.js';
import type { Statements } from './statements.js';

export interface SharedWrites {
  readonly claims: SharedStatement<Claim, ClaimRow>;
  readonly unflushedClaims: SharedStatement<Claim, ClaimRow>;
  /** Told `true` of each that was kept. */
  readonly completions: SharedStatement<Completion, boolean>;
}

export interface Completion extends Ownership {
  readonly status: number;
  readonly headers: Buffer;
  readonly body: Buffer;
  readonly retentionMs: number;
}

/**
 * How long a claim queues behind others of that key. A claim's commit takes milliseconds; what takes
 * longer is the transaction of an execution that has begun, or somebody else's, and no claim waits for
 * that, nor do those that share a statement with it.
 */
export const LONGEST_QUEUE = '100ms';

/** Bytes of an answer that is copied once more to be shared. A larger one would keep the small ones waiting, and costs enough by itself not to feel the statement. */
const SMALL = 16 * 1024;

export function sharedWrites(session: Session, sql: Statements, clock: Clock): SharedWrites {
  return {
    claims: sharedClaims(session, sql.claim, sql.claimShared, clock),
    unflushedClaims: sharedClaims(session, sql.claimUnflushed, sql.claimSharedUnflushed, clock),
    completions: new SharedStatement(clock, {
      async alone(completion, deadline) {
        return (await session.run(sql.complete, completionValues(completion), deadline)).count === 1;
      },
      async together(completions, deadline) {
        const { rows } = await session.run(sql.completeShared, completionColumns(completions), deadline);
        const kept = new Set(rows.map(({ id }) => id));
        return completions.map(({ id }) => kept.has(id));
      },
    }),
  };
}

function sharedClaims(
  session: Session,
  one: Statements['claim'],
  several: Statements['claimShared'] | Statements['claimSharedUnflushed'],
  clock: Clock,
): SharedStatement<Claim, ClaimRow> {
  return new SharedStatement(clock, {
    async alone(claim, deadline) {
      return (await session.run(one, claimValues(claim), deadline)).rows[0];
    },
    async together(claims, deadline) {
      const inOrder = claims.toSorted(byId);
      const { rows } = await session.run(several, claimColumns(inOrder), deadline);
      const told = new Map<string | undefined, ClaimRow>();
      for (const row of rows) told.set(row.n === null ? row.owner : inOrder[row.n - 1]?.owner, row);
      return claims.map(({ owner }) => told.get(owner));
    },
  });
}

/** Whoever claims the same keys in another process has the same order: they queue up, and don't lock each other out. */
const byId = (one: Claim, other: Claim): number => (one.id < other.id ? -1 : 1);

export function claimValues({ id, identity, fingerprint, owner, leaseMs, retentionMs }: Claim): readonly Value[] {
  const { scope, operation, key } = identity;
  return [id, scope, operation, key, fingerprint, owner, leaseMs, retentionMs];
}

function claimColumns(claims: readonly Claim[]): readonly Value[] {
  return [
    plainArray(claims.map(({ id }) => id)),
    textArray(claims.map(({ identity }) => identity.scope)),
    textArray(claims.map(({ identity }) => identity.operation)),
    textArray(claims.map(({ identity }) => identity.key)),
    byteaArray(claims.map(({ fingerprint }) => fingerprint)),
    plainArray(claims.map(({ owner }) => owner)),
    floatArray(claims.map(({ leaseMs }) => leaseMs)),
    floatArray(claims.map(({ retentionMs }) => retentionMs)),
    LONGEST_QUEUE,
    claims.length,
  ];
}

export function completionOf(ownership: Ownership, { status, headers, body }: RecordedResponse, retentionMs: number): Completion {
  return { id: ownership.id, owner: ownership.owner, status, headers: writeHeaders(headers), body, retentionMs };
}

export function isSmall({ headers, body }: Completion): boolean {
  return headers.length + body.length <= SMALL;
}

export function completionValues({ id, owner, status, headers, body, retentionMs }: Completion): readonly Value[] {
  return [id, owner, status, headers, body, retentionMs];
}

function completionColumns(completions: readonly Completion[]): readonly Value[] {
  return [
    plainArray(completions.map(({ id }) => id)),
    plainArray(completions.map(({ owner }) => owner)),
    plainArray(completions.map(({ status }) => status)),
    byteaArray(completions.map(({ headers }) => headers)),
    byteaArray(completions.map(({ body }) => body)),
    floatArray(completions.map(({ retentionMs }) => retentionMs)),
    completions.length,
  ];
}
