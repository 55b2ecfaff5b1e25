/**
 * What has been seen of one handler: whether its first statement in its transaction comes at once, before it waits for
 * anything else. Of such a handler nothing has come back from the outside world by then, so the transaction may begin
 * with that statement. One that has ever turned to somebody else first, a card processor for instance, does not count
 * as prompt any more: its transaction has begun before it is called.
 */
export class Promptness {
  #seen: 'nothing' | 'prompt' | 'late' = 'nothing';

  /** So far, and at least once. */
  get isPrompt(): boolean {
    return this.#seen === 'prompt';
  }

  /** There is nothing more to be seen. */
  get isLate(): boolean {
    return this.#seen === 'late';
  }

  /** @param isPrompt whether a statement has come at once */
  saw(isPrompt: boolean): void {
    this.#seen = isPrompt && !this.isLate ? 'prompt' : 'late';
  }
}
