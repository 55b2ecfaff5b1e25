/**
 * The module's own small pool, apart from the application's: handlers that hold every connection
 * of theirs can't keep a claim or a renewal waiting. It knows connections and clocks, and not one
 * of the statements it runs, except that each of them may be sent twice (see statements.ts).
 */
import pg from 'pg';
import type { PoolClient, PoolConfig, QueryResult } from 'pg';
import type { Clock } from '../contract/clock.js';
import { StoreUnavailable } from '../contract/errors.js';
import { GaveUp } from './patience.js';
import { isTransient } from './postgres-error.js';
import type { Answer, Deadline, Session, Statement } from './session.js';

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

/**
 * Our own reading of the text format, since an application may have changed the driver's
 * process-wide parsers (for `int8` or for dates that is common). Other types stay strings.
 */
const PARSERS: Readonly<Record<number, (text: string) => unknown>> = {
  16: (text) => text === 't', // bool
  20: Number, // int8: counts only
  21: Number, // int2
  23: Number, // int4
  701: Number, // float8
};
const asText = (text: string): unknown => text;
const types = { getTypeParser: (oid: number) => PARSERS[oid] ?? asText };

export class PgSession implements Session {
  private readonly pool: pg.Pool;
  /** Connections that have served before, and so may have died of old age since. */
  private readonly served = new WeakSet<PoolClient>();
  private readonly underWay = new Set<(reason: GaveUp) => void>();
  private closed: Promise<void> | undefined;

  constructor(private readonly options: PgSessionOptions) {
    const { poolSize } = options;
    this.pool = new pg.Pool({ ...connectionSettings(options), max: poolSize, min: 0, allowExitOnIdle: true }); // an idle connection keeps no finished process alive
    this.pool.on('error', () => undefined); // an idle connection broke: the pool has dropped it, and the next call makes a new one
  }

  async run<Row>(statement: Statement, values: readonly unknown[], deadline: Deadline): Promise<Answer<Row>> {
    for (let repeats = 0; ; repeats += 1) {
      const client = await this.connect(deadline, repeats === 0);
      const reused = this.served.has(client);
      this.served.add(client);
      try {
        return await this.send<Row>(client, statement, values, deadline);
      } catch (error) {
        // After a restart of Postgres every idle connection is dead, and each shows it at its first use only.
        // A serialization failure, which comes with a stricter default isolation, has undone the statement.
        const again = isTransient(error) || (reused && isBroken(error));
        if (!again || repeats > this.options.poolSize) throw new StoreUnavailable({ cause: error });
      }
    }
  }

  close(): Promise<void> {
    this.closed ??= this.shut();
    return this.closed;
  }

  private async shut(): Promise<void> {
    const reason = new GaveUp('The store was closed.');
    for (const giveUp of this.underWay) giveUp(reason);
    await this.pool.end();
  }

  private async connect(deadline: Deadline, unsent: boolean): Promise<PoolClient> {
    try {
      return await this.inTime<PoolClient>(
        deadline,
        (done) => this.pool.connect(done),
        (late) => late.release(), // somebody else may be waiting for it
      );
    } catch (error) {
      throw new StoreUnavailable({ cause: error, unsent });
    }
  }

  private async send<Row>(client: PoolClient, statement: Statement, values: readonly unknown[], deadline: Deadline): Promise<Answer<Row>> {
    client.on('error', ignored);
    try {
      this.options.onStatement?.(statement.name);
      const name = this.options.preparedStatements ? statement.name : undefined;
      const query = { name, text: statement.text, values: [...values], types };
      const result = await this.inTime<QueryResult>(deadline, (done) => client.query(query, done));
      client.release();
      const { processID: backend } = client as { readonly processID?: number };
      return { rows: result.rows as Row[], count: result.rowCount ?? 0, backend };
    } catch (error) {
      // An answer may still come, or the server is on its way down or has become a standby: nobody gets this connection again.
      client.release(true);
      throw error;
    } finally {
      client.off('error', ignored);
    }
  }

  /**
   * Waits for what is begun until the deadline or `close`. What comes of it after that concerns nobody,
   * but for whoever `late` tells. The driver is called back rather than awaited: it would make two
   * promises more of every call, and three of every connection.
   */
  private inTime<T>(deadline: Deadline, begin: (done: Done<T>) => void, late?: (value: T) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let isOver = false;
      const end = (): void => {
        isOver = true;
        cancel();
        this.underWay.delete(giveUp);
      };
      const giveUp = (reason: GaveUp): void => {
        end();
        reject(reason);
      };
      const cancel = this.options.clock.after(deadline.leftMs(), () => giveUp(new GaveUp('Postgres did not answer in time.')));
      this.underWay.add(giveUp);
      begin((error, value) => {
        if (isOver) {
          if (value !== undefined) late?.(value);
          return;
        }
        end();
        if (error) reject(error);
        else resolve(value!);
      });
    });
  }
}

/** As the driver calls back: one of the two. */
type Done<T> = (error: Error | undefined | null, value?: T) => void;

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
