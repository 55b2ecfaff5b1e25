/**
 * In which words a request is refused when the work that it asks for is under way, or done without an
 * answer to give. A request that carries no key hears of a duplicate, and never of a key.
 */
import { DuplicateRequest, KeyInUse, ResultNotReplayable } from '../contract/errors.js';
import type { FoundRecord } from '../contract/record.js';
import type { ExecutionSettings } from '../contract/settings.js';
import type { Refusal } from './verdict.js';

/** @param record what was found in the way, where there was something */
export function inUse(settings: ExecutionSettings, record?: FoundRecord): Refusal {
  return { kind: 'refuse', error: settings.window === undefined ? new KeyInUse(settings.retryAfterMs) : duplicate(settings, record) };
}

export function done(settings: ExecutionSettings, record: FoundRecord): Refusal {
  return { kind: 'refuse', error: settings.window === undefined ? new ResultNotReplayable() : duplicate(settings, record) };
}

/** The rest of the window, by the database's clock. What still runs at its end blocks beyond it, and nobody knows for how long. */
function duplicate({ retryAfterMs }: ExecutionSettings, record: FoundRecord | undefined): DuplicateRequest {
  const leftMs = record?.retentionLeftMs ?? 0;
  const isDone = record?.state === 'completed' || record?.state === 'sealed';
  return new DuplicateRequest(isDone ? leftMs : Math.max(leftMs, retryAfterMs));
}
