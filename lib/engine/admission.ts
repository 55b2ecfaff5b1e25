/** A request at the door, and the claim with which it asks for its key. */
import type { Claim, Identity } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import { LEASE_BEFORE_BEGIN_MS } from './atomic.js';

/** Whose it is, what it is, and the rules of its route. */
export interface Admission {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
  readonly settings: ExecutionSettings;
  /** `Controller.method`, for events and logs. */
  readonly handler: string;
  /** How long it would wait for the answer of an execution that is running; 0: not at all. */
  readonly waitMs: number;
  /** Its `signal` is aborted when the client has gone, which need not wait for an answer any more; read by those that wait. */
  readonly client?: { readonly signal: AbortSignal };
}

/** @param owner a token that is new for every claim */
export function claimOf(
  { identity, fingerprint, settings }: Pick<Admission, 'identity' | 'fingerprint' | 'settings'>,
  owner: string,
): Claim {
  return {
    id: identity.id,
    owner,
    identity,
    fingerprint,
    leaseMs: settings.atomic === undefined ? settings.leaseMs : Math.min(settings.leaseMs, LEASE_BEFORE_BEGIN_MS),
    retentionMs: settings.retentionMs,
    durable: settings.durableClaim,
    maxLiveKeys: settings.maxLiveKeys,
  };
}
