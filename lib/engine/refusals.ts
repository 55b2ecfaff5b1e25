/**
 * In which words a request is refused when the work that it asks for is under way, or done without an
 * answer to give. A request that carries no key hears of a duplicate, and never of a key.
 */
import { DuplicateRequest, KeyInUse, ResultNotReplayable, TooManyKeys } from '../contract/errors.js';
import type { FoundRecord } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import type { OverLimit, Refusal, Verdict } from './verdict.js';

/** @param record what was found in the way, where there was something */
export function inUse(settings: ExecutionSettings, record?: FoundRecord): Refusal {
  return { kind: 'refuse', error: settings.window === undefined ? new KeyInUse(settings.retryAfterMs) : duplicate(settings, record) };
}

export function done(settings: ExecutionSettings, record: FoundRecord): Refusal {
  return { kind: 'refuse', error: settings.window === undefined ? new ResultNotReplayable() : duplicate(settings, record) };
}

export function tooMany({ retryAfterMs }: ExecutionSettings, { freesInMs }: OverLimit): Refusal {
  return { kind: 'refuse', error: new TooManyKeys(Math.max(retryAfterMs, freesInMs ?? 0)) };
}

/** Whether waiting may help. Requests in a window never wait, so that theirs is another code. */
export function isInUse(verdict: Verdict): boolean {
  return verdict.kind === 'refuse' && verdict.error.code === 'IDEMPOTENCY_KEY_IN_USE';
}

/** The rest of the window, by the database's clock. What still runs at its end blocks beyond it, and nobody knows for how long. */
function duplicate({ retryAfterMs }: ExecutionSettings, record: FoundRecord | undefined): DuplicateRequest {
  const leftMs = record?.retentionLeftMs ?? 0;
  const isDone = record?.state === 'completed' || record?.state === 'sealed';
  return new DuplicateRequest(isDone ? leftMs : Math.max(leftMs, retryAfterMs));
}
