/**
 * Where requests wait for an answer that is in the making. All that wait for one key in this process
 * wait together: while the execution is at work here, its end tells them; otherwise one of them at a
 * time, the scout, goes and looks, and tells the others what it has found. Hints from elsewhere send
 * the scout at once. They may be missing, late or wrong, so that it also goes after pauses: short ones,
 * except where a hint is to be expected.
 */
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';

/** Most executions end within milliseconds, and one that has not done so by then seldom ends in the next ten. */
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 250;

export type Wake<News> =
  /** You are the scout: look, and either tell the others or wait again. */
  | { readonly kind: 'look' }
  | { readonly kind: 'told'; readonly news: News }
  /** Your time is over, or your client has gone. */
  | { readonly kind: 'over' };

interface Room<News> {
  readonly waiters: Waiter<News>[];
  pauseMs: number;
  cancelPause: (() => void) | undefined;
  /** Out looking right now. */
  scout: Waiter<News> | undefined;
  /** Something has happened since the scout went: what it finds may be older. */
  lookAgain: boolean;
  stopListening: (() => void) | undefined;
  /** Every end is sure to be hinted at. */
  reliesOnHints: boolean;
}

export class WaitingRooms<News> {
  readonly #rooms = new Map<string, Room<News>>();
  #count = 0;
  #closed = false;

  /**
   * @param isHere whether the execution of that identity is at work in this process, and so will tell its end
   * @param elsewhere where the hints come from that a record has changed in another process
   */
  constructor(
    private readonly clock: Clock,
    private readonly maxWaiters: number,
    private readonly isHere: (id: string) => boolean,
    private readonly elsewhere: Pick<IdempotencyStore, 'listen' | 'isListening'>,
  ) {}

  /** `undefined` when there are too many already, or nobody waits any longer. */
  enter(id: string, waitMs: number, signal: AbortSignal | undefined): Waiter<News> | undefined {
    if (this.#closed || this.#count >= this.maxWaiters || signal?.aborted) return undefined;
    this.#count += 1;
    const room = this.#rooms.get(id) ?? newRoom<News>();
    this.#rooms.set(id, room);
    const waiter = new Waiter<News>(
      this.clock,
      waitMs,
      signal,
      () => this.#sendScout(id, room),
      () => this.#left(id, room, waiter),
    );
    room.waiters.push(waiter);
    return waiter;
  }

  /** Whether anybody waits for `id`. */
  isAwaited(id: string): boolean {
    return this.#rooms.has(id);
  }

  /** Everybody who waits for `id` hears this. */
  tell(id: string, news: News): void {
    for (const waiter of this.#rooms.get(id)?.waiters.slice() ?? []) waiter.wake({ kind: 'told', news });
  }

  /** The key may be free: somebody should look at once, and one is enough. */
  nudge(id: string): void {
    const room = this.#rooms.get(id);
    if (room === undefined) return;
    room.pauseMs = FIRST_PAUSE_MS;
    this.#lookNow(room);
  }

  /** Nobody waits any longer, nor will. */
  close(): void {
    this.#closed = true;
    for (const room of this.#rooms.values()) for (const waiter of room.waiters.slice()) waiter.wake({ kind: 'over' });
  }

  #sendScout(id: string, room: Room<News>): void {
    const cameBack = room.scout?.isWaiting ?? false;
    if (cameBack) room.scout = undefined;
    if (this.isHere(id)) return stopListening(room);
    if (room.scout !== undefined || room.cancelPause !== undefined) return;
    if (!room.waiters.some(({ isWaiting }) => isWaiting)) return;
    // Not before the first look was in vain, where it costs a connection: most executions are over by then.
    if (cameBack || this.elsewhere.isListening?.()) this.#listen(id, room);
    if (room.lookAgain) return this.#wakeOne(room);
    this.#pause(id, room);
  }

  #listen(id: string, room: Room<News>): void {
    room.stopListening ??= this.elsewhere.listen(
      id,
      () => !this.isHere(id) && this.#lookNow(room),
      (relies) => this.#relyOnHints(id, room, relies),
    );
  }

  /** The pause that is under way is as long as it would be if it began now. */
  #relyOnHints(id: string, room: Room<News>, relies: boolean): void {
    if (room.reliesOnHints === relies) return;
    room.reliesOnHints = relies;
    room.pauseMs = FIRST_PAUSE_MS;
    if (room.cancelPause === undefined) return;
    cancelPause(room);
    this.#pause(id, room);
  }

  #pause(id: string, room: Room<News>): void {
    const pauseMs = room.reliesOnHints ? LONGEST_PAUSE_MS : room.pauseMs;
    room.cancelPause = this.clock.after(pauseMs, () => {
      room.cancelPause = undefined;
      room.pauseMs = Math.min(2 * room.pauseMs, LONGEST_PAUSE_MS);
      if (!this.isHere(id)) this.#wakeOne(room);
    });
  }

  #lookNow(room: Room<News>): void {
    if (room.scout === undefined) this.#wakeOne(room);
    else room.lookAgain = true;
  }

  #wakeOne(room: Room<News>): void {
    cancelPause(room);
    room.scout = room.waiters.find((waiter) => waiter.isWaiting);
    room.lookAgain = room.scout === undefined;
    room.scout?.wake({ kind: 'look' });
  }

  #left(id: string, room: Room<News>, waiter: Waiter<News>): void {
    this.#count -= 1;
    room.waiters.splice(room.waiters.indexOf(waiter), 1);
    if (room.scout === waiter) room.scout = undefined;
    if (room.waiters.length > 0) return this.#sendScout(id, room);
    cancelPause(room);
    stopListening(room);
    this.#rooms.delete(id);
  }
}

function newRoom<News>(): Room<News> {
  return {
    waiters: [],
    pauseMs: FIRST_PAUSE_MS,
    cancelPause: undefined,
    scout: undefined,
    lookAgain: false,
    stopListening: undefined,
    reliesOnHints: false,
  };
}

function stopListening<News>(room: Room<News>): void {
  room.stopListening?.();
  room.stopListening = undefined;
  room.reliesOnHints = false;
}

function cancelPause<News>(room: Room<News>): void {
  room.cancelPause?.();
  room.cancelPause = undefined;
}

export class Waiter<News> {
  #wake: ((wake: Wake<News>) => void) | undefined;
  /** What came while it was not waiting. */
  #missed: Wake<News> | undefined;
  readonly #cancelDeadline: () => void;

  constructor(
    clock: Clock,
    waitMs: number,
    private readonly signal: AbortSignal | undefined,
    private readonly onWaiting: () => void,
    private readonly onLeft: () => void,
  ) {
    this.#cancelDeadline = clock.after(waitMs, this.#end);
    signal?.addEventListener('abort', this.#end);
  }

  get isWaiting(): boolean {
    return this.#wake !== undefined;
  }

  next(): Promise<Wake<News>> {
    const missed = this.#missed;
    if (missed?.kind !== 'over') this.#missed = undefined; // news is heard once, the end for good
    if (missed !== undefined) return Promise.resolve(missed);
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.onWaiting();
    });
  }

  /** @internal */
  wake(wake: Wake<News>): void {
    const resolve = this.#wake;
    this.#wake = undefined;
    if (resolve !== undefined) resolve(wake);
    else if (wake.kind !== 'look') this.#missed = wake;
  }

  /** To be called whatever has come of the waiting. */
  leave(): void {
    this.#cancelDeadline();
    this.signal?.removeEventListener('abort', this.#end);
    this.onLeft();
  }

  readonly #end = (): void => this.wake({ kind: 'over' });
}
