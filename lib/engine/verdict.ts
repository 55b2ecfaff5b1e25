/** What lies between an execution's begin and its settlement, and what comes of it, as plain data. */
import type { IdempotencyError } from '../contract/errors.js';
import type { Claim, FoundRecord } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import type { OwnedExecution } from './execution.js';

export type Verdict =
  /** The key is ours: run the handler, then `settle`. */
  | { readonly kind: 'run'; readonly execution: OwnedExecution }
  | Found
  /** The store is away and the route would rather run unprotected. */
  | { readonly kind: 'bypass' };

/** What stands in the way of running, as an answer. */
export type Found = { readonly kind: 'replay'; readonly answer: RecordedResponse } | Refusal;

export interface Refusal {
  readonly kind: 'refuse';
  readonly error: IdempotencyError;
}

/**
 * How an execution ended, as its route's rules have it. `undo`, in atomic mode: the outcome is kept,
 * and what the handler wrote is not.
 */
export type Ending =
  | { readonly kind: 'keep'; readonly answer: RecordedResponse; readonly undo: boolean }
  /** Done, never again, and nothing to replay. */
  | { readonly kind: 'seal'; readonly status?: number; readonly undo: boolean }
  | { readonly kind: 'free' };

/** What may leave now. */
export type Settlement =
  /** The execution's own answer. */
  | { readonly kind: 'send' }
  /** It was superseded, or could not be committed: this instead. */
  | Found;

/** What a look at a key has come to: facts, which each request judges by the rules of its own route. */
export type Finding =
  /** The key belongs to the request that has asked. */
  | { readonly kind: 'owned'; readonly claim: Claim; readonly attempt: number; readonly takenOver: boolean }
  /** `held`: nobody can take it over just now, whatever its state says. */
  | { readonly kind: 'found'; readonly record: FoundRecord; readonly held: boolean }
  | OverLimit;

/** The key is free, and the scope has as many records as the route of that request allows. */
export interface OverLimit {
  readonly kind: 'over-limit';
  readonly maxLiveKeys: number | undefined;
  readonly freesInMs: number | undefined;
}

/** What others with the same key are told of a look, or of the end of an execution. */
export type News =
  | Finding
  /** `patienceMs`: how long the store was given. */
  | { readonly kind: 'failed'; readonly error: unknown; readonly patienceMs: number };
