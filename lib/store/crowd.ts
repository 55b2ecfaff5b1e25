/**
 * Those that are under way, to reach all of them when it is over. A `Set` would do, but for what is said of
 * `Map` in by-id.ts.
 */

export interface Member {
  /** Where it is in the crowd. The crowd's own note. */
  place: number;
}

export class Crowd<Each extends Member> {
  readonly #all: Each[] = [];

  /** Once. */
  add(member: Each): void {
    member.place = this.#all.push(member) - 1;
  }

  /** What is not in it is not removed. */
  remove(member: Each): void {
    if (this.#all[member.place] !== member) return;
    const last = this.#all.pop()!;
    if (last === member) return;
    this.#all[member.place] = last;
    last.place = member.place;
  }

  /** As they are now, whoever comes or goes meanwhile. */
  all(): readonly Each[] {
    return [...this.#all];
  }
}
