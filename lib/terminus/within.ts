import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';

/** Gives up on `work` after `ms`; it may go on, and nobody hears of its end. @throws StoreUnavailable, and what `work` throws */
export async function within<T>(ms: number, clock: Clock, work: Promise<T>): Promise<T> {
  let cancel = (): void => undefined;
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(ms, () => reject(new StoreUnavailable()));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}
