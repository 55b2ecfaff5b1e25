/**
 * Does many small things of one kind in slices, a few in each turn of the event loop, so that whatever else has
 * come meanwhile is served in between. The first slice is done at once, and nobody waits for a timer: the
 * next turn comes when this one is over. What the things are it refuses to know.
 */
export class Slices<Item> {
  #left: Item[] = [];

  /** @param most how many in one turn */
  constructor(
    private readonly most: number,
    private readonly work: (item: Item) => void,
  ) {}

  /** Behind those that are there already. */
  add(items: readonly Item[]): void {
    const isIdle = this.#left.length === 0;
    this.#left = this.#left.concat(items);
    if (isIdle) this.#next();
  }

  /** All that are left, now. */
  finish(): void {
    for (const item of this.#left.splice(0)) this.work(item);
  }

  #next(): void {
    if (this.#left.length > this.most) setImmediate(() => this.#next());
    for (const item of this.#left.splice(0, this.most)) this.work(item);
  }
}
