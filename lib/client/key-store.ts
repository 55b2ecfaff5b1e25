/**
 * Where the key of a logical call outlives the page or the process that made it. It is written
 * before the first attempt and deleted after the final answer, so what is in it is what may be under way.
 */
export interface KeyStore {
  /** The key kept for the intent, if there is one. May return a promise, as may the others. */
  get(intent: string): string | null | undefined | Promise<string | null | undefined>;
  set(intent: string, key: string): unknown;
  delete(intent: string): unknown;
}

/** Keeps keys as long as it lives itself: over a double click, not over a reload. */
export function memoryKeyStore(): KeyStore {
  return new Map<string, string>();
}

/**
 * Keeps keys over reloads, for all pages of the origin. Storage that is full, switched off or not there
 * at all must not keep anybody from paying: then keys are kept in memory, as long as the page lives.
 */
export function localStorageKeyStore(prefix = 'idempotency-key:'): KeyStore {
  const memory = new Map<string, string>();
  /** Browsers throw already where `localStorage` is read, if the user does not allow it. */
  const tried = <T>(use: (storage: WebStorage) => T): T | undefined => {
    try {
      return use((globalThis as unknown as { readonly localStorage: WebStorage }).localStorage);
    } catch {
      return undefined;
    }
  };
  return {
    get: (intent) => tried((storage) => storage.getItem(prefix + intent)) ?? memory.get(intent),
    set(intent, key) {
      memory.set(intent, key);
      tried((storage) => (storage.setItem(prefix + intent, key), memory.delete(intent)));
    },
    delete(intent) {
      memory.delete(intent);
      tried((storage) => storage.removeItem(prefix + intent));
    },
  };
}

/** As much of the browser's `Storage` as is used; the types of Node have none. */
interface WebStorage {
  getItem(name: string): string | null;
  setItem(name: string, value: string): void;
  removeItem(name: string): void;
}
