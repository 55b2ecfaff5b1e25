/**
 * One connection that listens, and the locks that it holds. It knows how it is made, whether it is of any
 * use, when it gives back what is needed no more, and how it ends; for whom it listens, and when, is said
 * in notifications.ts.
 */
import pg from 'pg';
import type { PoolClient } from 'pg';
import type { Socket } from 'node:net';
import { plainArray } from './arrays.js';
import { inTime } from './patience.js';
import { connectionSettings, type ConnectionOptions } from './pg-session.js';
import { deadlineIn, type Statement, type Value } from './session.js';
import type { Statements } from './statements.js';
import { Trip, type TripAnswer } from './trip.js';

export interface ListeningConnectionParts extends ConnectionOptions {
  readonly sql: Statements;
  /** A statement that names a table is carried out on the node where its row is, which may be another one. */
  readonly isSharded: boolean;
  readonly onNotified: (id: string) => void;
  /** It has ended, by itself or not. */
  readonly onEnd: () => void;
}

/** A server that is there says goodbye in no time, and one that is not must not hold up a shutdown. */
const GOODBYE_MS = 1_000;

/**
 * Until a lock that is needed no more is given back, unless the next one that is taken gives it back on the way.
 * Meanwhile whoever ends that record once more tells it in vain, and no more than that.
 */
const NEEDLESS_MS = 1_000;

/** Of a record whose end is told from now on: whether it surely was at work when that began. */
export type Attended = 'running' | 'unknown';

export class ListeningConnection {
  readonly #client: pg.Client;
  /** The driver wants one statement after the other. */
  #last: Promise<unknown> = Promise.resolve();
  /** Records whose locks are held for nobody any more. One that was taken twice is given back twice. */
  #needless: string[] = [];
  #cancelGivingBack: () => void = () => undefined;

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
    if ((await this.#ask(this.parts.sql.isDirect, [processID])).count === 0) return false;
    await this.#ask(this.parts.sql.listen, []);
    return true;
  }

  /** From now on the end of that record is told. `undefined` when its owner is just about to end it, and does not tell. */
  async attend(id: string): Promise<Attended | undefined> {
    const { sql, isSharded } = this.parts;
    const needless = this.#takeNeedless();
    const { rows } = await this.#ask(isSharded ? sql.attendUnseen : sql.attend, [id, plainArray(needless)]);
    return (rows[0] as { readonly standing: Attended | null }).standing ?? undefined;
  }

  /** The end of that record need not be told any more. */
  leave(id: string): void {
    if (this.#needless.push(id) > 1) return;
    this.#cancelGivingBack = this.parts.clock.after(NEEDLESS_MS, () => this.#giveBack());
  }

  #giveBack(): void {
    this.#ask(this.parts.sql.leave, [plainArray(this.#takeNeedless())]).catch(this.parts.onEnd);
  }

  #takeNeedless(): readonly string[] {
    const needless = this.#needless;
    this.#needless = [];
    this.#cancelGivingBack();
    return needless;
  }

  /** Never rejects. */
  async close(): Promise<void> {
    const { clock } = this.parts;
    this.#cancelGivingBack();
    try {
      this.#socket.ref(); // else a process that has nothing else to do would end before it is closed
      await inTime(this.#client.end(), deadlineIn(clock, GOODBYE_MS), clock);
    } catch {
      this.#socket.destroy();
    }
  }

  #ask(statement: Statement, values: readonly Value[]): Promise<TripAnswer> {
    const answer = this.#last.then(() => this.#send(statement, values));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  #send(statement: Statement, values: readonly Value[]): Promise<TripAnswer> {
    const { clock, connectTimeoutMs, onStatement, preparedStatements } = this.parts;
    onStatement?.(statement.name);
    const trip = new Trip([{ statement, values }], preparedStatements);
    const answer = new Promise<TripAnswer>((resolve, reject) => trip.on(this.#client as unknown as PoolClient, resolve, reject));
    return inTime(answer, deadlineIn(clock, connectTimeoutMs), clock);
  }

  get #socket(): Socket {
    return this.#client.connection.stream as Socket;
  }
}
