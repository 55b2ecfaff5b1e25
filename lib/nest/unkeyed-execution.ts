/** What a handler is handed when its request is not protected. */
import { randomUUID } from 'node:crypto';
import type { IdempotentExecution } from '../contract/execution.js';
import type { Identity } from '../contract/record.js';
import { derivedKey, identify } from '../engine/key.js';

/** @param identity of a request that came with a key all the same (`onStoreFailure: 'bypass'`): its derived keys stay the same */
export function unkeyedExecution(identity: Identity | undefined): IdempotentExecution {
  const source = identity ?? identify('', '', randomUUID());
  return {
    key: identity?.key,
    scope: source.scope,
    attempt: 1,
    signal: new AbortController().signal, // there is no lease to lose
    keyFor: (name) => derivedKey(source, name),
  };
}
