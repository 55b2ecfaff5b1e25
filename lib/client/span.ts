/**
 * A stretch of time in which something is waited for: a call, or one attempt of it. It ends early by
 * its time-out or with the span around it, and leaves neither a timer nor a listener behind.
 */
import type { ClientClock } from './options.js';

export interface Span {
  /** Aborted when the span ends early. */
  readonly signal: AbortSignal;
  leftMs(): number;
  /** What is started only if the span has not ended, and no longer waited for when it ends. */
  within<T>(start: () => T | PromiseLike<T>): Promise<T>;
  pause(ms: number): Promise<void>;
  /** From here on nothing ends it. */
  close(): void;
}

export function openSpan(clock: ClientClock, ms: number, around?: AbortSignal | null): Span {
  const controller = new AbortController();
  const { signal } = controller;
  const until = clock.now() + ms;
  const cancelTimer = clock.after(ms, () => controller.abort());
  const endWithAround = (): void => controller.abort(around?.reason);
  const ended = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  ended.catch(() => undefined); // heard by whoever waits within this span; that may be nobody
  around?.addEventListener('abort', endWithAround);
  if (around?.aborted) endWithAround();

  const within = async <T>(start: () => T | PromiseLike<T>): Promise<T> => {
    signal.throwIfAborted();
    return Promise.race([start(), ended]);
  };
  return {
    signal,
    leftMs: () => until - clock.now(),
    within,
    async pause(pauseMs) {
      let cancel = (): void => undefined;
      try {
        await within(() => new Promise<void>((resolve) => (cancel = clock.after(pauseMs, resolve))));
      } finally {
        cancel();
      }
    },
    close() {
      cancelTimer();
      around?.removeEventListener('abort', endWithAround);
    },
  };
}
