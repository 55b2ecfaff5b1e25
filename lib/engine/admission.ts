/** A request at the door, and the claim with which it asks for its key. */
import { randomBytes } from 'node:crypto';
import type { Claim, Identity } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import { LEASE_BEFORE_BEGIN_MS } from './atomic.js';
import { uuidText } from './uuid.js';

/** Whose it is, what it is, and the rules of its route. */
export interface Admission {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
  readonly settings: ExecutionSettings;
  /** `Controller.method`, for events and logs. */
  readonly handler: string;
  /** How long it would wait for the answer of an execution that is running; 0: not at all. */
  readonly waitMs: number;
  /** Aborted when the client has gone: it need not wait for an answer any more. */
  readonly signal?: AbortSignal;
}

/** The owner token is new for every claim, and too long to be met twice. */
export function claimOf({ identity, fingerprint, settings }: Pick<Admission, 'identity' | 'fingerprint' | 'settings'>): Claim {
  return {
    id: identity.id,
    owner: uuidText(randomBytes(16)),
    identity,
    fingerprint,
    leaseMs: settings.atomic === undefined ? settings.leaseMs : Math.min(settings.leaseMs, LEASE_BEFORE_BEGIN_MS),
    retentionMs: settings.retentionMs,
    durable: settings.durableClaim,
    maxLiveKeys: settings.maxLiveKeys,
  };
}
