/**
 * Answers that are asked for again and again, kept for a moment: a crowd of retries of one request then
 * costs one read in a second instead of one each. It decides what is hot, for how long something that
 * was read may be repeated, and what goes first when there is too much of it. It refuses to know who may
 * have an answer: whoever recalls one judges it as if it had just been read.
 *
 * An answer never changes, but it expires, and may be forgotten by an operator: so what was read counts
 * for a second at most, from before the read was sent. Only what is hot is kept at all, so that every
 * ordinary retry asks the database, and sees at once what was done there.
 *
 * It stands above the sealing, so that nothing is opened more often than it is read. The price is that
 * a hot answer lies here in clear for that second, and is cleared away within the next, in the memory of
 * a process that has just sent it.
 */
import type { Clock } from '../contract/clock.js';
import type { FoundRecord, Identity } from '../contract/record.js';
import type { RecordedResponse } from '../contract/recorded-response.js';
import { ReadOnce } from './read-once.js';

/** What an operator may be told to wait after `forget`, and too short for anybody to notice. */
export const MOMENT_MS = 1000;

/**
 * So many reads in one moment make a key hot. Below that, the memory would save Postgres about a
 * millisecond of work in a second at most, and nobody who retries with pauses gets there: people, clients with a
 * back-off and operators who look whether something worked always see what the table says.
 */
export const HOT_READS = 32;

/** A larger answer costs more to send than to read. */
export const MAX_ANSWER_BYTES = 64 * 1024;

/** Little beside a process of Node, and enough for as many hot answers of usual size as can be sent in a moment. */
export const MAX_BYTES = 8 * 1024 * 1024;

/**
 * How many keys that came more than once are watched. A key that is read often enough to become hot comes again
 * before so many others have come, unless a process reads more than thirty times as many in a second.
 */
export const MAX_KEYS = 1024;

/** How many keys go at once when there are too many. */
const BITE = MAX_KEYS / 16;

type Completed = Extract<FoundRecord, { state: 'completed' }>;

interface Watched {
  readonly identity: Identity;
  /** How often it was asked for since then, within a moment. */
  since: number;
  asked: number;
  /** When it was hot last. */
  hotAt: number;
  kept: Kept | undefined;
}

interface Kept {
  readonly record: Completed;
  readonly until: number;
  readonly bytes: number;
}

/** Until when what a read has found may be repeated, by the clock of `readAt`, at which it was sent. */
export function standsUntil({ retentionLeftMs }: FoundRecord, readAt: number): number {
  return readAt + Math.min(MOMENT_MS, retentionLeftMs);
}

export class ReplayMemory {
  /** The one that was asked for least recently comes first. */
  readonly #watched = new Map<string, Watched>();
  readonly #readOnce = new ReadOnce();
  #bytes = 0;
  #cancelSweep: (() => void) | undefined;
  #closed = false;

  constructor(private readonly clock: Clock) {}

  recall(id: string): Completed | undefined {
    const watched = this.#watched.get(id);
    if (watched?.kept === undefined) return undefined;
    const now = this.clock.now();
    if (now >= watched.kept.until) return this.#release(watched);
    this.#count(watched, now);
    return watched.kept.record;
  }

  /**
   * Notes a read that came to a replay; the answer is kept if its key is hot.
   *
   * @param readAt when it was sent, by the clock
   */
  note(identity: Identity, record: Completed, readAt: number): void {
    const now = this.clock.now();
    const watched = this.#watched.get(identity.id) ?? this.#readAgain(identity, now);
    if (watched === undefined) return;
    this.#count(watched, now);
    this.#release(watched);
    const until = standsUntil(record, readAt);
    const isHot = now - watched.hotAt < MOMENT_MS;
    if (isHot && now < until) this.#keep(watched, record, until);
    if (this.#watched.size > MAX_KEYS || this.#bytes > MAX_BYTES) this.#makeRoom();
  }

  /** A key that comes for the first time, or that has not come for long, is not watched yet. */
  #readAgain(identity: Identity, now: number): Watched | undefined {
    const since = this.#readOnce.note(identity.id, now);
    return since === undefined ? undefined : { identity, since, asked: 1, hotAt: -Infinity, kept: undefined };
  }

  /** Drops what is known of the records that `concerns` names. They are cold then, so that a read which is under way is not kept either. */
  drop(concerns: (identity: Identity) => boolean): void {
    for (const watched of this.#watched.values()) if (concerns(watched.identity)) this.#remove(watched);
    this.#readOnce.clear();
  }

  /** Nothing is kept any more. */
  close(): void {
    this.#closed = true;
    this.#cancelSweep?.();
    this.#watched.clear();
  }

  #count(watched: Watched, now: number): void {
    const { id } = watched.identity;
    if (now - watched.since >= MOMENT_MS) {
      watched.since = now;
      watched.asked = 0;
    }
    watched.asked += 1;
    if (watched.asked >= HOT_READS) watched.hotAt = now;
    this.#watched.delete(id);
    this.#watched.set(id, watched);
  }

  #keep(watched: Watched, record: Completed, until: number): void {
    const bytes = sizeOf(record.answer);
    if (bytes > MAX_ANSWER_BYTES || this.#closed) return;
    const { fingerprint, owner, attempt, retentionLeftMs, answer } = record; // the answer itself, and not what it was opened from
    watched.kept = { record: { state: 'completed', fingerprint, owner, attempt, retentionLeftMs, answer }, until, bytes };
    this.#bytes += bytes;
    this.#cancelSweep ??= this.clock.after(MOMENT_MS, () => this.#sweep());
  }

  #release(watched: Watched): undefined {
    this.#bytes -= watched.kept?.bytes ?? 0;
    watched.kept = undefined;
  }

  /** Keys go in bites: to find the first of a map that was just as full a moment ago takes long. */
  #makeRoom(): void {
    const keys = this.#watched.size > MAX_KEYS ? MAX_KEYS - BITE : MAX_KEYS;
    for (const watched of this.#watched.values()) {
      if (this.#watched.size <= keys && this.#bytes <= MAX_BYTES) return;
      this.#remove(watched);
    }
  }

  #remove(watched: Watched): void {
    this.#release(watched);
    this.#watched.delete(watched.identity.id);
  }

  /** What nobody asks for any more would otherwise stay for as long as the process. */
  #sweep(): void {
    this.#cancelSweep = undefined;
    const now = this.clock.now();
    for (const watched of this.#watched.values()) if (watched.kept !== undefined && now >= watched.kept.until) this.#release(watched);
    if (this.#bytes > 0) this.#cancelSweep = this.clock.after(MOMENT_MS, () => this.#sweep());
  }
}

/** What stands around an answer. */
const RECORD_BYTES = 512;

/** Texts count a byte for each character: near enough for a bound. */
function sizeOf({ headers, body }: RecordedResponse): number {
  let bytes = RECORD_BYTES + body.length;
  for (const [name, value] of headers) bytes += name.length + (typeof value === 'string' ? value.length : value.join().length);
  return bytes;
}
