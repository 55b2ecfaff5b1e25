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
  /** Told, or given up. */
  isOver: boolean;
}

export class SharedStatement<Asked, Told> {
  #gathered: Seat<Asked, Told>[] = [];
  /** Of each statement that is under way, those who wait for it. A handful, and no `Set`: see by-id.ts. */
  readonly #sent: (readonly Seat<Asked, Told>[])[] = [];
  /** All who wait, gathered or sent. */
  #waiting = 0;
  /** All that are under way, and those of them that are shared. */
  #underWay = 0;
  #shared = 0;
  #leaving = false;
  #cancelPatience: (() => void) | undefined;
  /** One timer serves all who wait: it stands at the deadline of one of them, or before any. */
  #timerAt = Infinity;
  #cancelTimer: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly ways: Ways<Asked, Told>,
  ) {}

  /** @throws StoreUnavailable; `unsent` where the deadline came before there was room */
  run(asked: Asked, deadline: Deadline): Promise<Told | undefined> {
    return new Promise((resolve, reject) => {
      this.#gathered.push({ asked, deadline, resolve, reject, isOver: false });
      this.#waiting += 1;
      if (deadline.at < this.#timerAt) this.#wakeAt(deadline.at);
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
    if (this.#gathered.length === 0 || this.#shared >= MOST_SHARED) return;
    const seats = this.#takeSeats();
    const shared = seats.length > 1 ? 1 : 0;
    this.#underWay += 1;
    this.#shared += shared;
    void this.#carry(seats).finally(() => {
      this.#underWay -= 1;
      this.#shared -= shared;
      if (this.#underWay > 0) this.#leave();
      else if (this.#gathered.length > 0) this.#leaveSoon(); // what comes in the same turn of the event loop goes along
    });
  }

  #takeSeats(): readonly Seat<Asked, Told>[] {
    const all = this.#gathered;
    this.#gathered = all.slice(MOST);
    return all.length > MOST ? all.slice(0, MOST) : all;
  }

  async #carry(seats: readonly Seat<Asked, Told>[]): Promise<void> {
    const only = seats.length === 1 ? seats[0] : undefined;
    this.#sent.push(seats);
    try {
      const told = only === undefined ? await this.#sendTogether(seats) : [await this.ways.alone(only.asked, only.deadline)];
      seats.forEach((seat, i) => this.#ends(seat) && seat.resolve(told[i]));
    } catch (error) {
      if (only !== undefined || !isRefused(error)) return seats.forEach((seat) => this.#ends(seat) && seat.reject(error));
      // Nothing of it has happened. Nobody waits here for the one that was at fault, which may take long.
      for (const seat of seats) if (!seat.isOver) void this.#carry([seat]);
    } finally {
      this.#sent[this.#sent.indexOf(seats)] = this.#sent.at(-1)!;
      this.#sent.pop();
    }
  }

  #sendTogether(seats: readonly Seat<Asked, Told>[]): Promise<readonly (Told | undefined)[]> {
    return this.ways.together(
      seats.map(({ asked }) => asked),
      latestOf(seats),
    );
  }

  /** `false`: it was over already. */
  #ends(seat: Seat<Asked, Told>): boolean {
    if (seat.isOver) return false;
    seat.isOver = true;
    this.#waiting -= 1;
    if (this.#waiting === 0) this.#stopTimer();
    return true;
  }

  #wakeAt(at: number): void {
    this.#stopTimer();
    this.#timerAt = at;
    this.#cancelTimer = this.clock.after(Math.max(0, at - this.clock.now()), () => this.#giveUpThoseDue());
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#timerAt = Infinity;
  }

  #giveUpThoseDue(): void {
    this.#stopTimer();
    const now = this.clock.now();
    let next = Infinity;
    for (const seats of [...this.#sent, this.#gathered]) {
      for (const seat of seats) {
        if (seat.isOver) continue;
        if (seat.deadline.at > now) next = Math.min(next, seat.deadline.at);
        else this.#giveUp(seat, seats === this.#gathered);
      }
    }
    this.#gathered = this.#gathered.filter(({ isOver }) => !isOver);
    if (next < this.#timerAt) this.#wakeAt(next);
  }

  #giveUp(seat: Seat<Asked, Told>, unsent: boolean): void {
    if (this.#ends(seat)) seat.reject(new StoreUnavailable({ cause: new GaveUp('Postgres did not answer in time.'), unsent }));
  }
}

/** Of those who share a statement each gives up by itself. */
function latestOf(seats: readonly { readonly deadline: Deadline }[]): Deadline {
  return seats.reduce((latest, { deadline }) => (deadline.at > latest.at ? deadline : latest), seats[0]!.deadline);
}

/** By Postgres itself, as a whole: on account of one of them, and there is no telling of which. */
function isRefused(error: unknown): boolean {
  return error instanceof StoreUnavailable && error.cause !== undefined && !endsConnection(error.cause);
}
