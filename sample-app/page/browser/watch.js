/** Looks into the database again and again, for as long as somebody can see it. */

/** Often enough to see a record run, seldom enough to cost nothing. */
const LOOK_EVERY_MS = 500;

export class Watch {
  #asked = 0;
  #shown = 0;
  /** @type {number | undefined} */
  #next;

  /** @param {() => Promise<() => void>} look how to look; what it returns shows what was seen */
  constructor(look) {
    this.look = async () => {
      const asked = (this.#asked += 1);
      const show = await look();
      if (asked < this.#shown) return; // a later look was quicker
      this.#shown = asked;
      show();
    };
    document.addEventListener('visibilitychange', () => void this.keepLooking());
  }

  async keepLooking() {
    clearTimeout(this.#next);
    if (document.hidden) return;
    await this.look();
    clearTimeout(this.#next);
    this.#next = setTimeout(() => void this.keepLooking(), LOOK_EVERY_MS);
  }

  /** @param {() => boolean} isAwaited */
  async lookWhile(isAwaited) {
    while (isAwaited()) {
      await new Promise((over) => setTimeout(over, LOOK_EVERY_MS));
      await this.look();
    }
  }
}
