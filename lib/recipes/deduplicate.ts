/**
 * Requests whose clients send no key, known again by what they say: the same request of the same
 * caller within a window is a duplicate. This file says which record such a request is about and
 * which outcomes its window stands for. It knows nothing of how a request is read.
 */
import { randomBytes } from 'node:crypto';
import type { Identity } from '../contract/record.js';
import { identify } from '../engine/key.js';

export interface Recognised {
  readonly identity: Identity;
  readonly fingerprint: Buffer;
}

/**
 * What it says is the key, in a space apart from those of natural keys. So there is nothing left to
 * compare, and in the fingerprint's place the record has random bytes: they stay while it lives, and
 * name this life of it. The same request means another thing when its window is over.
 *
 * @param place method and route pattern
 * @param said the digest of all that a duplicate repeats
 */
export function recognised(scope: string, place: string, said: Buffer): Recognised {
  return { identity: identify(scope, `deduplicate ${place}`, said.toString('hex')), fingerprint: randomBytes(said.length) };
}

/**
 * A duplicate is refused because its work is done, so a window stands for work that was done: what
 * failed, with a 4xx too, may be tried again at once. A form is often answered by a redirect.
 */
export function standsFor(status: number): boolean {
  return status < 400;
}
