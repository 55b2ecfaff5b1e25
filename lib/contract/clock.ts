/**
 * The process's own time, for waiting, and for how long something that the database has said may be
 * said again without asking. Whether a lease or an answer is still good is the database's to decide.
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
