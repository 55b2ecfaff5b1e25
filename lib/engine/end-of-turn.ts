/**
 * Tells what is known at once at the end of the event loop's turn, to all who have asked in it. Their
 * answers then leave one after another rather than each between two requests: a client that sleeps is
 * woken for the first and awake for the others, and to wake somebody is the dearest part of a small answer.
 */
export class EndOfTurn {
  #tellings: (() => void)[] = [];

  tell<T>(value: T): Promise<T> {
    return new Promise((resolve) => {
      if (this.#tellings.push(() => resolve(value)) === 1) setImmediate(() => this.#tellAll());
    });
  }

  #tellAll(): void {
    const tellings = this.#tellings;
    this.#tellings = [];
    for (const tell of tellings) tell();
  }
}
