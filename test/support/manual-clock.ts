/** Time that stands still until a test moves it, and the moment when nothing moves any more. */
import { setImmediate as macrotask } from 'node:timers/promises';

export { ManualClock } from '../../lib/testing/manual-clock.js';

/** Resolves when no promise has anything left to do: all of that comes before the next macrotask. */
export async function atRest(): Promise<void> {
  await macrotask();
}
