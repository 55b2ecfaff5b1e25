/** Which record is meant, and how it is shown. */
import { identify } from '../engine/key.js';
import type { Identity, RecordRef, RecordSummary } from '../contract/record.js';
import { CliError, EXIT } from './exit-codes.js';
import { facts } from './table.js';

export function identityOf({ scope, key, operation = '' }: RecordRef): Identity {
  return identify(scope, operation, key);
}

export const ABSENT =
  'There is no record of this key. The scope is what the scope function returned, id=42, sub=42 or userId=42 by default, and "" for the space that all share; ' +
  'keys that come from no header need --operation as well.';

export function inUse(): CliError {
  return new CliError(
    'IDEMPOTENCY_KEY_IN_USE',
    EXIT.refused,
    'Its execution is running, so nothing was changed. Try again when it has ended.',
  );
}

export function summaryText(record: RecordSummary, heading: (text: string) => string): string {
  return facts(
    [
      ['State', record.state],
      ['Scope', record.scope === '' ? '"" (shared by all)' : record.scope],
      ['Operation', record.operation === '' ? '"" (keys from a header)' : record.operation],
      ['Key', record.key],
      ['Attempt', String(record.attempt)],
      ['Status', record.status?.toString()],
      ['Steps', record.steps.join(', ') || undefined],
      ['Created', record.createdAt.toISOString()],
      ['Locked until', record.lockedUntil?.toISOString()],
      ['Completed', record.completedAt?.toISOString()],
      ['Expires', record.expiresAt?.toISOString()],
    ],
    heading,
  );
}
