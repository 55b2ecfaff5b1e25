/**
 * What is found by an id, for things that come and go with every request. A `Map` does the same and costs
 * more: it lets the deleted pile up in its table and then moves to a new one, and V8 links the old table to
 * the new. Once one of them has grown old, all that it holds and all that its successors hold counts as alive
 * until the next big collection of garbage: requests that are long over, with everything that hangs on them.
 * Here the places stay where they are, and nothing is left behind in them.
 */

/** A power of two. Few are at work at a time; where there are more, some share a place. */
const PLACES = 1024;

interface Entry<Value> {
  readonly id: string;
  value: Value;
  next: Entry<Value> | undefined;
}

export class ById<Value> {
  readonly #places: (Entry<Value> | undefined)[] = Array.from({ length: PLACES });
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: string): Value | undefined {
    let entry = this.#places[placeOf(id)];
    while (entry !== undefined && entry.id !== id) entry = entry.next;
    return entry?.value;
  }

  has(id: string): boolean {
    return this.get(id) !== undefined;
  }

  set(id: string, value: Value): void {
    const place = placeOf(id);
    const first = this.#places[place];
    let entry = first;
    while (entry !== undefined && entry.id !== id) entry = entry.next;
    if (entry !== undefined) {
      entry.value = value;
      return;
    }
    this.#places[place] = { id, value, next: first };
    this.#size += 1;
  }

  /** `false`: there was none. */
  delete(id: string): boolean {
    const place = placeOf(id);
    let before: Entry<Value> | undefined;
    let entry = this.#places[place];
    while (entry !== undefined && entry.id !== id) {
      before = entry;
      entry = entry.next;
    }
    if (entry === undefined) return false;
    if (before === undefined) this.#places[place] = entry.next;
    else before.next = entry.next;
    entry.next = undefined; // or a dead one would keep those alive that came before it
    this.#size -= 1;
    return true;
  }

  clear(): void {
    this.#places.fill(undefined);
    this.#size = 0;
  }

  /** In no order: those that are there now, whoever comes or goes meanwhile. */
  all(): readonly Value[] {
    const values: Value[] = [];
    if (this.#size === 0) return values;
    for (const first of this.#places) for (let entry = first; entry !== undefined; entry = entry.next) values.push(entry.value);
    return values;
  }
}

/** Ids are random, or digests, and in hexadecimal: three digits at their end make a place. Other texts find one as well. */
function placeOf(id: string): number {
  const end = id.length;
  return (digitAt(id, end - 1) | (digitAt(id, end - 2) << 4) | (digitAt(id, end - 3) << 8)) & (PLACES - 1);
}

function digitAt(id: string, index: number): number {
  const code = id.charCodeAt(index);
  return (code & 0xf) + (code >> 6) * 9;
}
