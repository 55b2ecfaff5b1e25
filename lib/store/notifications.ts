/**
 * Hears of records that come to their end at the hands of other processes, so that whoever waits for
 * one need not wait until the next look. A courtesy: with a pooler in between, where LISTEN is refused,
 * when the connection breaks, there are no hints, and nothing else changes.
 *
 * There is one connection for all who listen, made when the first one does and kept for a while after
 * the last one has stopped. For each record it holds an advisory lock, by which that record's owner
 * sees that somebody wants to be told (see `hint` in statements.ts).
 */
import { ListeningConnection } from './listening-connection.js';
import type { ConnectionOptions } from './pg-session.js';
import { endsConnection } from './postgres-error.js';
import type { Statements } from './statements.js';

export interface NotificationsOptions extends ConnectionOptions {
  readonly sql: Statements;
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
  /** Where its lock is held. */
  connection: ListeningConnection | undefined;
}

interface Line {
  readonly connection: ListeningConnection;
  /** `undefined` when it turns out to be of no use. */
  readonly ready: Promise<ListeningConnection | undefined>;
}

export class Notifications {
  readonly #ears = new Set<Ear>();
  #line: Line | undefined;
  #notBefore = -Infinity;
  #cancelIdle: () => void = () => undefined;
  #goodbyes: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(private readonly options: NotificationsOptions) {}

  /** See `IdempotencyStore.listen`. */
  listen(id: string, onHint: () => void): () => void {
    if (this.#closed || this.#ears.size >= MOST_EARS) return () => undefined;
    const ear: Ear = { id, onHint, connection: undefined };
    this.#ears.add(ear);
    this.#cancelIdle();
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
    try {
      if (!(await connection.attend(ear.id))) return; // it comes to its end this very moment: the next look finds it
    } catch (error) {
      return this.#end(connection, isRefusal(error));
    }
    ear.connection = connection;
    if (this.#ears.has(ear)) ear.onHint();
    else this.#unlock(ear);
  }

  #leave(ear: Ear): void {
    if (!this.#ears.delete(ear)) return;
    this.#unlock(ear);
    if (this.#ears.size > 0 || this.#line === undefined) return;
    this.#cancelIdle();
    this.#cancelIdle = this.options.clock.after(IDLE_MS, () => this.#hangUp());
  }

  #unlock({ id, connection }: Ear): void {
    connection?.leave(id).catch((error: unknown) => this.#end(connection, isRefusal(error)));
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
        if (usable) return connection;
        this.#end(connection, true);
        return undefined;
      });
    return { connection, ready };
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
    for (const ear of this.#ears) ear.connection = undefined;
    this.#goodbyes = Promise.all([this.#goodbyes, connection.close()]);
  }
}

/** Postgres' own word, as against a broken connection. */
function isRefusal(error: unknown): boolean {
  return !endsConnection(error);
}
