/**
 * The row, told in prose, then in types, in the same words.
 *
 * A record is *running* under an owner's token and a lease. From there it becomes *completed* (it
 * has the answer), *sealed* (the work is done, but its answer can't be replayed and it must never
 * run again), *open* (it failed after a step was recorded: the next claim resumes), or it is gone
 * (it failed, and the key is free). A running record whose lease has passed is *lost*: the next
 * claim may take it over under a new token, unless the late owner completes it first. Completed,
 * sealed and open records end at `expiresAt`; from that instant on the key is free.
 *
 * Time is always the database's.
 */
import type { RecordedResponse } from './recorded-response.js';

/** Whose key of which operation it is. `id` is a digest of the other three, as a UUID's text. */
export interface Identity {
  readonly id: string;
  /** Whose: the caller's space. `''` is the one shared by everybody. */
  readonly scope: string;
  /** Which space of keys: `''` for keys that clients send, a name for all others. */
  readonly operation: string;
  readonly key: string;
}

/** What every write of an owner carries: the row, and the random token that says who owns it. */
export interface Ownership {
  readonly id: string;
  /** A random UUID, new for every claim. */
  readonly owner: string;
}

/** What a request asks for when it wants to become responsible for a key. */
export interface Claim extends Ownership {
  readonly identity: Identity;
  /** 32 bytes. Stays with the row while it lives, whatever state it is in. */
  readonly fingerprint: Buffer;
  readonly leaseMs: number;
  /** How long the answer will be kept from its completion: tells the reaper when to look first. */
  readonly retentionMs: number;
  /** Whether the claim's commit waits for the disk. */
  readonly durable: boolean;
  /** How many records of its scope may be live for a new one to be made. */
  readonly maxLiveKeys?: number | undefined;
}

/** What every record tells that stands in the way of a claim. */
interface FoundCommon {
  readonly fingerprint: Buffer;
  readonly owner: string;
  readonly attempt: number;
  /** Until its retention ends; of a running or lost one, as it was planned when the key was claimed. Negative when that has passed. */
  readonly retentionLeftMs: number;
}

/** A record that stood in the way of a claim. */
export type FoundRecord = FoundCommon &
  (
    | { readonly state: 'running'; readonly leaseLeftMs: number }
    | { readonly state: 'lost' }
    | { readonly state: 'open' }
    | {
        readonly state: 'completed';
        /** Opened when it is asked for: who is refused for another reason needs no key. @throws RecordUnreadable */
        readonly answer: RecordedResponse;
      }
    | { readonly state: 'sealed' }
  );

export type RecordState = FoundRecord['state'];

export type ClaimResult =
  | { readonly kind: 'claimed'; readonly attempt: number }
  | { readonly kind: 'found'; readonly record: FoundRecord }
  /** The key is free, and its scope has `maxLiveKeys` already. `freesInMs`: when the first of them expires, where one is to. */
  | { readonly kind: 'over-limit'; readonly freesInMs: number | undefined };

/** What became of an attempt to take a lost or open record over. */
export type TakeOverResult =
  | { readonly kind: 'taken'; readonly attempt: number }
  /** Its owner is inside a transaction that holds the row: alive, whatever the lease says. */
  | { readonly kind: 'held' }
  /** It is not as it was found: somebody was faster, or the late owner has settled it. */
  | { readonly kind: 'changed' };

/** What became of a key whose outcome was not one to keep. */
export type Released =
  | 'freed'
  /** It has recorded steps: they and the fingerprint stay, and the next claim resumes. */
  | 'opened'
  /** This owner had nothing (any more) to give back. */
  | 'absent';

/** A finished phase of an execution, never to be repeated while the record lives. */
export interface RecordedStep {
  readonly name: string;
  /** UTF-8 JSON; empty for `undefined`. */
  readonly result: Buffer;
}

/** What became of an owner's last write. */
export type Settled =
  | { readonly kind: 'settled' }
  /** Somebody else owns the key by now, or nobody does any more; the record as it stands, if one does. */
  | { readonly kind: 'superseded'; readonly record: FoundRecord | undefined };

/** How people name a record. `operation` is left out for keys that clients send in a header. */
export interface RecordRef {
  readonly scope: string;
  readonly key: string;
  readonly operation?: string;
}

/** A record for the eyes of an operator: everything but the answer. */
export interface RecordSummary {
  readonly state: RecordState;
  readonly scope: string;
  readonly operation: string;
  readonly key: string;
  /** 1 for the first execution; counts on with every take-over while the row lives. */
  readonly attempt: number;
  /** The answer's HTTP status, where there is one. */
  readonly status?: number;
  /** Names of the recorded steps, in the order in which they were recorded. */
  readonly steps: readonly string[];
  readonly createdAt: Date;
  readonly completedAt?: Date;
  /** The end of a running execution's lease. */
  readonly lockedUntil?: Date;
  /** When the key will be free again; not known while it is running. */
  readonly expiresAt?: Date;
}

/** Counts of the whole table, by state. Expired records are counted as `expired`, not by their state. */
export interface StoreStats {
  readonly running: number;
  readonly lost: number;
  readonly completed: number;
  readonly sealed: number;
  readonly open: number;
  readonly expired: number;
  /** When the lease of the oldest lost record ran out. */
  readonly oldestLost?: Date;
}
