/**
 * How the requests of a process share a statement. It leaves with whatever the present turn of the
 * event loop has brought, as long as none of its kind is under way; otherwise those who come gather
 * until that is back. So the statements grow with the load, and a lonely request waits for no timer.
 *
 * It knows queues and deadlines. What a statement does, and for how many at once, is for its two ways
 * to say: *alone*, which waits for nobody but the row's own holder, and *together*.
 */
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';
import { GaveUp } from './patience.js';
import { endsConnection } from './postgres-error.js';
import type { Deadline } from './session.js';

export interface Ways<Asked, Told> {
  alone(asked: Asked, deadline: Deadline): Promise<Told | undefined>;
  /** What is told of each, in the order of those who ask: `undefined` of one that was passed by. */
  together(asked: readonly Asked[], deadline: Deadline): Promise<readonly (Told | undefined)[]>;
}

/**
 * A statement takes a millisecond or a few, the disk included. One that takes longer is stuck, on a
 * connection that is no more or behind a lock, and the next one does not wait for it.
 */
const LONGEST_GATHERING_MS = 20;

/**
 * Of one kind, and shared. With more of them fewer requests would share each, and there are but a few connections.
 * One that goes alone may stand before a lock for as long as its request has patience, so it does not count.
 */
const MOST_SHARED = 3;

/** In one statement. Far above what gathers in the time of one; it bounds what a stalled Postgres has to catch up with at once. */
const MOST = 200;

interface Seat<Asked, Told> {
  readonly asked: Asked;
  readonly deadline: Deadline;
  readonly resolve: (told: Told | undefined) => void;
  readonly reject: (error: unknown) => void;
  gaveUp: boolean;
}

export class SharedStatement<Asked, Told> {
  readonly #gathered = new Set<Seat<Asked, Told>>();
  /** All that are under way, and those of them that are shared. */
  #underWay = 0;
  #shared = 0;
  #leaving = false;
  #cancelPatience: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly ways: Ways<Asked, Told>,
  ) {}

  /** @throws StoreUnavailable; `unsent` where the deadline came before there was room */
  run(asked: Asked, deadline: Deadline): Promise<Told | undefined> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        seat.gaveUp = true;
        const unsent = this.#gathered.delete(seat);
        reject(new StoreUnavailable({ cause: new GaveUp('Postgres did not answer in time.'), unsent }));
      };
      const cancel = this.clock.after(deadline.leftMs(), giveUp);
      const seat: Seat<Asked, Told> = {
        asked,
        deadline,
        resolve: (told) => {
          cancel();
          resolve(told);
        },
        reject: (error) => {
          cancel();
          reject(error as Error);
        },
        gaveUp: false,
      };
      this.#gathered.add(seat);
      this.#leaveSoon();
    });
  }

  #leaveSoon(): void {
    if (this.#leaving) return;
    if (this.#underWay > 0) {
      this.#cancelPatience ??= this.clock.after(LONGEST_GATHERING_MS, () => this.#leave());
      return;
    }
    this.#leaving = true;
    setImmediate(() => {
      this.#leaving = false;
      this.#leave();
    });
  }

  #leave(): void {
    this.#cancelPatience?.();
    this.#cancelPatience = undefined;
    if (this.#gathered.size === 0 || this.#shared >= MOST_SHARED) return;
    const seats = [...this.#gathered].slice(0, MOST);
    for (const seat of seats) this.#gathered.delete(seat);
    const shared = seats.length > 1 ? 1 : 0;
    this.#underWay += 1;
    this.#shared += shared;
    void this.#carry(seats).finally(() => {
      this.#underWay -= 1;
      this.#shared -= shared;
      this.#leave();
    });
  }

  async #carry(seats: readonly Seat<Asked, Told>[]): Promise<void> {
    const [first] = seats;
    if (seats.length === 1 && first !== undefined) return this.#carryAlone(first);
    try {
      const told = await this.ways.together(
        seats.map(({ asked }) => asked),
        latestOf(seats),
      );
      seats.forEach(({ resolve }, i) => resolve(told[i]));
    } catch (error) {
      if (!isRefused(error)) return seats.forEach(({ reject }) => reject(error));
      // Nothing of it has happened. Nobody waits here for the one that was at fault, which may take long.
      for (const seat of seats) if (!seat.gaveUp) void this.#carryAlone(seat);
    }
  }

  #carryAlone({ asked, deadline, resolve, reject }: Seat<Asked, Told>): Promise<void> {
    return this.ways.alone(asked, deadline).then(resolve, reject);
  }
}

/** Of those who share a statement each gives up by itself. */
function latestOf(seats: readonly { readonly deadline: Deadline }[]): Deadline {
  return { leftMs: () => Math.max(...seats.map(({ deadline }) => deadline.leftMs())) };
}

/** By Postgres itself, as a whole: on account of one of them, and there is no telling of which. */
function isRefused(error: unknown): boolean {
  return error instanceof StoreUnavailable && error.cause !== undefined && !endsConnection(error.cause);
}
