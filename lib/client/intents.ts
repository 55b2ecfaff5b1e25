/**
 * Which key belongs to a named logical call. All looks into the store happen one after another:
 * two clicks at once must not both find no key there and make two.
 */
import type { KeyStore } from './key-store.js';

export interface Intents {
  /** The kept key, or a new one that is kept by the time this resolves. */
  keyFor(intent: string): Promise<string>;
  /** Only if it is still this key: a slower call of the same intent must not delete the key of the next one. */
  drop(intent: string, key: string): Promise<void>;
}

export function keptIn(store: KeyStore, newKey: () => string): Intents {
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };
  return {
    keyFor: (intent) =>
      inTurn(async () => {
        const kept = await store.get(intent);
        if (kept) return kept;
        const key = newKey();
        await store.set(intent, key);
        return key;
      }),
    drop: (intent, key) =>
      inTurn(async () => {
        if ((await store.get(intent)) === key) await store.delete(intent);
      }),
  };
}
