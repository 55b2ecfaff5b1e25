/**
 * The process's own time, for waiting only: never for deciding whether a lease or an answer is
 * still good, which is the database's to say.
 */
export interface Clock {
  /** Milliseconds on a clock that never jumps; only differences mean anything. */
  now(): number;
  /** Runs `task` once after `delayMs`. The returned function cancels it, and may be called at any time. */
  after(delayMs: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    timer.unref(); // waiting for a lease or a pause must not keep a finished process alive
    return () => clearTimeout(timer);
  },
};
