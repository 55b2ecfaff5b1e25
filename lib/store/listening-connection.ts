/**
 * One connection that listens. It knows how it is made, whether it is of any use, and how it ends; for
 * whom it listens, and when, is said in notifications.ts.
 */
import pg from 'pg';
import type { Socket } from 'node:net';
import { inTime } from './patience.js';
import { connectionSettings, type ConnectionOptions } from './pg-session.js';
import { deadlineIn, type Statement } from './session.js';
import type { Statements } from './statements.js';

export interface ListeningConnectionParts extends ConnectionOptions {
  readonly sql: Statements;
  readonly onNotified: (id: string) => void;
  /** It has ended, by itself or not. */
  readonly onEnd: () => void;
}

/** A server that is there says goodbye in no time, and one that is not must not hold up a shutdown. */
const GOODBYE_MS = 1_000;

export class ListeningConnection {
  readonly #client: pg.Client;
  /** The driver wants one statement after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: ListeningConnectionParts) {
    this.#client = new pg.Client(connectionSettings(parts));
    this.#client.on('error', parts.onEnd).on('end', parts.onEnd);
    this.#client.on('notification', ({ payload }) => parts.onNotified(payload ?? ''));
  }

  /**
   * `false` behind a pooler, even one that would keep the session for us: a lock that was taken in
   * another one could never be given back.
   */
  async open(): Promise<boolean> {
    await this.#client.connect();
    this.#socket.unref(); // it keeps no finished process alive
    const { processID } = this.#client as { readonly processID?: number };
    if ((await this.#ask(this.parts.sql.isDirect, [processID])) === 0) return false;
    await this.#ask(this.parts.sql.listen, []);
    return true;
  }

  /** From now on the end of that record is told. `false` when its owner is just about to end it. */
  async attend(id: string): Promise<boolean> {
    return (await this.#ask(this.parts.sql.attend, [id])) === 1;
  }

  async leave(id: string): Promise<void> {
    await this.#ask(this.parts.sql.leave, [id]);
  }

  /** Never rejects. */
  async close(): Promise<void> {
    const { clock } = this.parts;
    try {
      this.#socket.ref(); // else a process that has nothing else to do would end before it is closed
      await inTime(this.#client.end(), deadlineIn(clock, GOODBYE_MS), clock);
    } catch {
      this.#socket.destroy();
    }
  }

  /** Rows. */
  #ask(statement: Statement, values: readonly unknown[]): Promise<number> {
    const answer = this.#last.then(() => this.#send(statement, values));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #send({ name, text }: Statement, values: readonly unknown[]): Promise<number> {
    const { clock, connectTimeoutMs, onStatement, preparedStatements } = this.parts;
    onStatement?.(name);
    const answer = this.#client.query({ name: preparedStatements ? name : undefined, text, values: [...values] });
    return (await inTime(answer, deadlineIn(clock, connectTimeoutMs), clock)).rowCount ?? 0;
  }

  get #socket(): Socket {
    return this.#client.connection.stream as Socket;
  }
}
