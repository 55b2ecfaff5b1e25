/**
 * The module's own small pool, apart from the application's: handlers that hold every connection
 * of theirs can't keep a claim or a renewal waiting. It knows connections and clocks, and not one
 * of the statements it runs, except that each of them may be sent twice (see statements.ts).
 */
import pg from 'pg';
import type { PoolClient, PoolConfig } from 'pg';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';
import { Crowd, type Member } from './crowd.js';
import { GaveUp } from './patience.js';
import { isTransient } from './postgres-error.js';
import type { Answer, Deadline, Session, Statement, Value } from './session.js';
import { Trip, isForgotten, type TripAnswer } from './trip.js';

export interface ConnectionOptions {
  readonly connection: PoolConfig;
  /** Longest wait for one new connection: a server that accepts and never answers must not fill the pool for good. */
  readonly connectTimeoutMs: number;
  readonly preparedStatements: boolean;
  readonly clock: Clock;
  /** Told the name of every statement that is sent. */
  readonly onStatement?: (name: string) => void;
}

export interface PgSessionOptions extends ConnectionOptions {
  readonly poolSize: number;
}

export class PgSession implements Session {
  private readonly pool: pg.Pool;
  private readonly underWay: UnderWay;
  private closed: Promise<void> | undefined;

  constructor(private readonly options: PgSessionOptions) {
    const { poolSize } = options;
    this.pool = new pg.Pool({ ...connectionSettings(options), max: poolSize, min: 0, allowExitOnIdle: true }); // an idle connection keeps no finished process alive
    this.pool.on('error', () => undefined); // an idle connection broke: the pool has dropped it, and the next call makes a new one
    this.underWay = { pool: this.pool, served: new WeakSet(), attempts: new Crowd(), options };
  }

  async run<Row>(statement: Statement<Row>, values: readonly Value[], deadline: Deadline): Promise<Answer<Row>> {
    for (let repeats = 0; ; repeats += 1) {
      const attempt = new Attempt(this.underWay, statement, values);
      try {
        return await attempt.within(deadline);
      } catch (cause) {
        if (!attempt.isSent) throw new StoreUnavailable({ cause, unsent: repeats === 0 });
        // After a restart of Postgres every idle connection is dead, and each shows it at its first use only.
        // A serialization failure, which comes with a stricter default isolation, has undone the statement.
        const again = isTransient(cause) || (attempt.isReused && isBroken(cause));
        if (!again || repeats > this.options.poolSize) throw new StoreUnavailable({ cause });
      }
    }
  }

  close(): Promise<void> {
    this.closed ??= this.shut();
    return this.closed;
  }

  private async shut(): Promise<void> {
    const reason = new GaveUp('The store was closed.');
    const ended = this.pool.end();
    for (const attempt of this.underWay.attempts.all()) attempt.fail(reason);
    await ended;
  }
}

/** What all attempts of a session have in common. */
interface UnderWay {
  readonly pool: pg.Pool;
  /** Connections that have served before, and so may have died of old age since. */
  readonly served: WeakSet<PoolClient>;
  readonly attempts: Crowd<Member & { fail(reason: GaveUp): void }>;
  readonly options: ConnectionOptions;
}

/**
 * A statement's way to a connection, on it to Postgres, and back. It is over when it is answered, has failed,
 * or is given up, at the deadline or at `close`; what comes of it after that concerns nobody. Pool and driver
 * call back and are not awaited: they would make two promises more of every call, and three of every connection.
 */
class Attempt<Row> implements Member {
  place = 0;
  /** The connection served before. */
  isReused = false;
  #client: PoolClient | undefined;
  #isOver = false;
  #cancelTimer!: () => void;
  #resolve!: (answer: Answer<Row>) => void;
  #reject!: (cause: unknown) => void;

  constructor(
    private readonly underWay: UnderWay,
    private readonly statement: Statement<Row>,
    private readonly values: readonly Value[],
  ) {}

  /** It may have reached Postgres. */
  get isSent(): boolean {
    return this.#client !== undefined;
  }

  within(deadline: Deadline): Promise<Answer<Row>> {
    const { pool, attempts, options } = this.underWay;
    return new Promise<Answer<Row>>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#cancelTimer = options.clock.after(deadline.leftMs(), () => this.fail(new GaveUp('Postgres did not answer in time.')));
      attempts.add(this);
      pool.connect((error, client) => {
        if (error) this.fail(error);
        else this.#send(client!);
      });
    });
  }

  #send(client: PoolClient): void {
    if (this.#isOver) return client.release(); // somebody else may be waiting for it
    const { served } = this.underWay;
    this.#client = client;
    this.isReused = served.has(client);
    if (!this.isReused) {
      served.add(client);
      client.on('error', ignored);
    }
    this.#submit(client, false);
  }

  /** Alone in its trip, a statement that Postgres has not prepared (any more) was not begun either: it is prepared and sent again at once. */
  #submit(client: PoolClient, isRepeated: boolean): void {
    const { options } = this.underWay;
    try {
      options.onStatement?.(this.statement.name);
      const trip = new Trip([{ statement: this.statement, values: this.values }], options.preparedStatements);
      trip.on(
        client,
        (answer) => this.#answered(client, answer),
        (error) => (isRepeated || this.#isOver || !isForgotten(error) ? this.fail(error) : this.#submit(client, true)),
      );
    } catch (error) {
      this.fail(error);
    }
  }

  #answered(client: PoolClient, { rows, count }: TripAnswer): void {
    if (this.#isOver) return;
    this.#end();
    client.release();
    const { processID: backend } = client as { readonly processID?: number };
    this.#resolve({ rows: rows as readonly Row[], count, backend });
  }

  fail(cause: unknown): void {
    if (this.#isOver) return;
    this.#end();
    // An answer may still come, or the server is on its way down or has become a standby: nobody gets this connection again.
    this.#client?.release(true);
    this.#reject(cause);
  }

  #end(): void {
    this.#isOver = true;
    this.#cancelTimer();
    this.underWay.attempts.remove(this);
  }
}

/** Of a connection of the module's own, wherever it is kept. */
export function connectionSettings({ connection, connectTimeoutMs }: ConnectionOptions): PoolConfig {
  return {
    fallback_application_name: 'nestjs-idempotency-pg',
    ...connection,
    connectionTimeoutMillis: Math.min(connection.connectionTimeoutMillis || Infinity, connectTimeoutMs),
    ...STATEMENTS_ONE_BY_ONE,
  };
}

/**
 * Settings of the application's that would harm us. `binary` loses bytes in pg 8 (they are read as
 * UTF-8 on the way), and a pipelined connection that hangs can't be taken down at once.
 */
const STATEMENTS_ONE_BY_ONE = { binary: false, pipeline: false };

const ignored = (): void => undefined;

/** The connection is gone, and with it the knowledge whether the statement was carried out. */
function isBroken(error: unknown): boolean {
  if (error instanceof GaveUp) return false;
  if (!(error instanceof pg.DatabaseError)) return true; // the network's own
  return /^(08...|57P0[1-3])$/.test(error.code ?? '');
}
