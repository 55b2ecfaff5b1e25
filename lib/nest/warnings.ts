/** What is said once for each handler, when its requests show that something may not be as it is meant. */
import { Logger } from '@nestjs/common';
import { MANY_REUSES, ReusedKeys } from '../engine/reused-keys.js';
import type { Scope } from '../engine/scope.js';
import type { Asked } from './admission.js';

export class Warnings {
  readonly #logger = new Logger('Idempotency');
  readonly #anonymous = new Set<string>();
  readonly #reused = new ReusedKeys();

  ifAnonymous(handler: string, scope: Scope): void {
    if (scope.kind !== 'anonymous' || this.#anonymous.has(handler)) return;
    this.#anonymous.add(handler);
    this.#logger.warn(
      `${handler}: nobody is known to be calling (no request.user, no Authorization header), so all such callers count as one. ` +
        'Set the option scope, or scope: false if that is meant.',
    );
  }

  /** To be told of every key that belonged to another request. */
  ifAlwaysTheSame(handler: string, { identity, fingerprint }: Asked): void {
    const keyDigest = this.#reused.note(handler, identity.key, fingerprint);
    if (keyDigest === undefined) return;
    this.#logger.warn(
      `${handler}: ${MANY_REUSES} different requests were refused because they came with one and the same key (digest ${keyDigest}). ` +
        'A client seems to have one key for everything, or to put something new, such as a time, into each retry. ' +
        'It should make a key for each operation, and repeat key and request exactly.',
    );
  }
}
