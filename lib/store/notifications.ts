/**
 * Hears of records that come to their end at the hands of other processes, so that whoever waits for
 * one need not wait until the next look. A courtesy: with a pooler in between, where LISTEN is refused,
 * when the connection breaks, there are no hints, and nothing else changes.
 *
 * There is one connection for all who listen, made when the first one does and kept for a while after
 * the last one has stopped. For each record it holds an advisory lock, by which that record's owner
 * sees that somebody wants to be told (see `hint` in statements.ts).
 */
import { ListeningConnection, type Attended } from './listening-connection.js';
import type { ConnectionOptions } from './pg-session.js';
import { endsConnection } from './postgres-error.js';
import type { Statements } from './statements.js';

export interface NotificationsOptions extends ConnectionOptions {
  readonly sql: Statements;
  /** There a lock may be held on another node than the record's, and nobody be told: nothing is promised to who listens. */
  readonly isSharded: boolean;
}

/** Those who wait come in bursts, and a connection costs Postgres a process. */
const IDLE_MS = 10_000;

/** What stands in the way, a pooler or a limit on connections, is seldom gone in a moment. */
const REFUSED_MS = 60_000;

/**
 * By default Postgres has room for 64 locks per connection, in one table for all connections, and when
 * that is full, everybody's statements fail. We take no more than our connection's share.
 */
const MOST_EARS = 64;

interface Ear {
  readonly id: string;
  readonly onHint: () => void;
  readonly onReliance: ((relies: boolean) => void) | undefined;
  /** Where its lock is held. */
  connection: ListeningConnection | undefined;
}

interface Line {
  readonly connection: ListeningConnection;
  /** `undefined` when it turns out to be of no use. */
  readonly ready: Promise<ListeningConnection | undefined>;
  isReady: boolean;
}

export class Notifications {
  readonly #ears = new Set<Ear>();
  #line: Line | undefined;
  #notBefore = -Infinity;
  #cancelIdle: () => void = () => undefined;
  #goodbyes: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(private readonly options: NotificationsOptions) {}

  /** See `IdempotencyStore.isListening`. */
  isListening(): boolean {
    return this.#line?.isReady ?? false;
  }

  /** See `IdempotencyStore.listen`. */
  listen(id: string, onHint: () => void, onReliance?: (relies: boolean) => void): () => void {
    if (this.#closed || this.#ears.size >= MOST_EARS) return () => undefined;
    const ear: Ear = { id, onHint, onReliance: this.options.isSharded ? undefined : onReliance, connection: undefined };
    this.#ears.add(ear);
    this.#cancelIdle();
    if (this.isListening()) ear.onReliance?.(true); // a word of it is a moment away, one way or the other
    void this.#attend(ear);
    return () => this.#leave(ear);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelIdle();
    this.#hangUp();
    await this.#goodbyes;
  }

  async #attend(ear: Ear): Promise<void> {
    const connection = await this.#connected();
    if (connection === undefined || !this.#ears.has(ear)) return;
    let attended: Attended | undefined;
    try {
      attended = await connection.attend(ear.id);
    } catch (error) {
      return this.#end(connection, isRefusal(error));
    }
    if (this.#line?.connection !== connection) return;
    if (!this.#ears.has(ear)) return attended && connection.leave(ear.id);
    ear.onReliance?.(attended !== undefined);
    if (attended === undefined) return; // it comes to its end this very moment: the next look finds it
    ear.connection = connection;
    if (attended === 'unknown' || ear.onReliance === undefined) ear.onHint();
  }

  #leave(ear: Ear): void {
    if (!this.#ears.delete(ear)) return;
    ear.connection?.leave(ear.id);
    if (this.#ears.size > 0 || this.#line === undefined) return;
    this.#cancelIdle();
    this.#cancelIdle = this.options.clock.after(IDLE_MS, () => this.#hangUp());
  }

  #connected(): Promise<ListeningConnection | undefined> {
    const { clock } = this.options;
    if (this.#line === undefined && clock.now() >= this.#notBefore) this.#line = this.#open();
    return this.#line?.ready ?? Promise.resolve(undefined);
  }

  #open(): Line {
    const connection = new ListeningConnection({
      ...this.options,
      onNotified: (id) => this.#hear(id),
      onEnd: () => this.#end(connection, false),
    });
    const ready = connection
      .open()
      .catch(() => false)
      .then((usable) => {
        if (!usable) {
          this.#end(connection, true);
          return undefined;
        }
        line.isReady = true;
        return connection;
      });
    const line: Line = { connection, ready, isReady: false };
    return line;
  }

  #hear(id: string): void {
    for (const ear of this.#ears) if (ear.id === id) ear.onHint();
  }

  #hangUp(): void {
    if (this.#line !== undefined) this.#end(this.#line.connection, false);
  }

  /** Its locks are gone with it. Whoever has listened by it hears nothing any more; who listens next gets another one. */
  #end(connection: ListeningConnection, refused: boolean): void {
    if (refused) this.#notBefore = this.options.clock.now() + REFUSED_MS;
    if (this.#line?.connection !== connection) return;
    this.#line = undefined;
    for (const ear of this.#ears) {
      ear.connection = undefined;
      ear.onReliance?.(false);
    }
    this.#goodbyes = Promise.all([this.#goodbyes, connection.close()]);
  }
}

/** Postgres' own word, as against a broken connection. */
function isRefusal(error: unknown): boolean {
  return !endsConnection(error);
}
