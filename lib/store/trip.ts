/**
 * One statement or several in one trip to Postgres, on a connection of the application's or of the module's
 * own. It knows the wire and the driver, and nothing of what the statements mean.
 *
 * One “Sync” stands behind them all: Postgres carries them out in order, and after an error passes over
 * the rest up to there, a COMMIT as well. Values travel as bytes beside the text, and what is prepared
 * once for a connection is neither parsed nor planned again, which for our statements costs more than to
 * carry them out: beginning and ending a transaction that holds a record took 220 µs of Postgres' processor
 * less so. The other way, one text of several statements, saves 25 µs only: it is parsed and planned each
 * time, and answers would have to be written into it, where Postgres logs them whenever it refuses one.
 *
 * All that is known of the driver's inside is here, and it is the same from 8.7 on. The driver takes
 * objects that submit themselves, as cursors do. One that pipelines by itself refuses them, but sends
 * without waiting; a native one can do neither, and its statements go one by one.
 */
import type { PoolClient } from 'pg';
import type { Line, Passenger } from './passenger.js';
import { codeOf, isFromServer } from './postgres-error.js';
import type { Statement, Value } from './session.js';

export interface TripStatement {
  readonly statement: Statement;
  readonly values?: readonly Value[];
}

export interface TripAnswer {
  /** As Postgres names it: `SELECT`, `COMMIT` … A COMMIT of what had failed before is a `ROLLBACK`. */
  readonly command: string;
  /** Rows read, written or deleted. */
  readonly count: number;
  /** Of whichever statements name their columns. */
  readonly rows: readonly unknown[];
}

/** What `pg` does not declare, or declares otherwise. */
interface Wire extends Line {
  parse(statement: Statement): void;
  bind(parts: { readonly statement: string; readonly values: readonly Value[]; readonly valueMapper: typeof sent }): void;
  execute(parts: object): void;
  close(parts: { readonly type: 'S'; readonly name: string }): void;
  once(event: 'readyForQuery' | 'end', listener: () => void): void;
  off(event: 'readyForQuery' | 'end', listener: () => void): void;
}

interface ClientInside {
  readonly connection?: Partial<Wire>;
  readonly pipeline?: boolean;
}

/** One of each for all trips. */
const NO_VALUES: readonly Value[] = [];
const ALL_ROWS = {};
const NO_ROWS: readonly unknown[] = [];

/** Where the driver would read a row, it is told to leave its fields as they came. */
const AS_TEXT = { getTypeParser: () => (text: string) => text };

export class Trip {
  /** What the first error was, and which statement's. */
  failure: { readonly at: number; readonly error: unknown } | undefined;
  /** The driver puts its own before it when it has a time limit. */
  callback: (error: unknown) => void = () => undefined;
  /** How many statements are answered, and what Postgres said of the latest. */
  #answered = 0;
  #tag = '';
  #rows: unknown[] | undefined;

  /**
   * @param prepare whether statements may stay prepared on the connection
   * @param passenger goes along behind them. Only on a connection that takes one.
   */
  constructor(
    private readonly statements: readonly TripStatement[],
    private readonly prepare: boolean,
    private readonly passenger?: Passenger,
  ) {}

  /** For whoever watches what is sent; then the passenger's, see `name`. */
  get text(): string {
    return this.#guest?.text ?? this.statements.map(({ statement }) => statement.text.trim()).join(';\n');
  }

  get names(): readonly string[] {
    return this.statements.map(({ statement }) => statement.name);
  }

  /**
   * There is none, but it is there to be seen: tracers that write their context into a text, for which they copy
   * what is sent, do so to nothing that has a name. A copy of this could not submit itself. Once ours are answered it is
   * the passenger's: what Postgres says is prepared then, the driver remembers by this name and this text.
   */
  get name(): string | undefined {
    return this.#guest?.name;
  }

  /**
   * Callbacks rather than a promise: each transaction makes two such trips, and whoever waits for one has a promise already.
   *
   * @param arrived told the last statement's answer, when whatever went along is answered too
   * @param failed told the first error. What came after it was passed over, or found its transaction aborted.
   */
  on(client: PoolClient, arrived: (last: TripAnswer) => void, failed: (error: unknown) => void): void {
    const { connection, pipeline } = client as unknown as ClientInside;
    if (pipeline === true || connection?.parsedStatements === undefined) {
      this.#sendEach(client, pipeline === true).then(arrived, failed);
      return;
    }
    this.callback = (error) => (error === null ? arrived(answerOf(this.#tag, this.#rows)) : failed(error));
    try {
      client.query(this as never);
    } catch (error) {
      failed(error);
    }
  }

  async #sendEach(client: PoolClient, withoutWaiting: boolean): Promise<TripAnswer> {
    if (withoutWaiting) return (await Promise.all(this.statements.map((_, i) => this.#sendAlone(client, i)))).at(-1)!;
    let last: TripAnswer | undefined;
    for (const i of this.statements.keys()) last = await this.#sendAlone(client, i);
    return last!;
  }

  async #sendAlone(client: PoolClient, i: number): Promise<TripAnswer> {
    const { statement, values = [] } = this.statements[i]!;
    try {
      const name = this.prepare ? statement.name : undefined;
      const query = { name, text: statement.text, values: values.map(sent), types: AS_TEXT, rowMode: 'array' as const };
      const { command, rowCount, rows } = await client.query<unknown[]>(query);
      return { command, count: rowCount ?? 0, rows: rowsOf(statement, rows) };
    } catch (error) {
      this.failure ??= { at: i, error };
      throw error;
    }
  }

  submit(wire: Wire): void {
    wire.stream.cork?.();
    for (const { statement, values = NO_VALUES } of this.statements) {
      wire.bind({ statement: this.#prepared(wire, statement), values, valueMapper: sent });
      wire.execute(ALL_ROWS);
    }
    if (this.passenger === undefined) wire.sync();
    else this.passenger.join(wire);
    wire.stream.uncork?.();
  }

  /**
   * Where a name stands for another text already, another module has another schema; that one goes without a name.
   * Whether something was prepared before an error came, nobody knows, so it is closed first; to close nothing is no error.
   */
  #prepared(wire: Wire, { name, text }: Statement): string {
    const standing = wire.parsedStatements[name];
    if (this.prepare && standing === text) return name;
    const named = this.prepare && standing === undefined;
    if (named) wire.close({ type: 'S', name });
    wire.parse({ name: named ? name : '', text });
    return named ? name : '';
  }

  /** All of ours are answered, and what comes is the passenger's. */
  get #isThrough(): boolean {
    return this.#answered === this.statements.length;
  }

  get #guest(): Passenger | undefined {
    return this.#isThrough ? this.passenger : undefined;
  }

  handleDataRow(message: { readonly fields: readonly (string | null)[] }): void {
    if (this.#isThrough) return this.passenger?.handleDataRow(message);
    const { columns } = this.statements[this.#answered]!.statement;
    if (columns !== undefined) (this.#rows ??= []).push(columns.read(message.fields));
  }

  handleCommandComplete(message: { readonly text: string }, wire: Wire): void {
    if (this.#isThrough) return this.passenger?.handleCommandComplete(message, wire);
    const { statement } = this.statements[this.#answered]!;
    if (this.prepare) wire.parsedStatements[statement.name] ??= statement.text;
    this.#answered += 1;
    this.#tag = message.text;
  }

  handleError(error: unknown, wire: Wire): void {
    if (this.passenger !== undefined && this.#isThrough) {
      if (isFromServer(error)) onceReady(wire, () => this.callback(null));
      else this.callback(error); // the connection is gone, and nothing comes any more
      return this.passenger.handleError(error, wire);
    }
    this.failure ??= { at: this.#answered, error };
    this.passenger?.passedOver(wire);
    if (isForgotten(error)) forget(wire.parsedStatements);
    this.callback(error);
  }

  handleReadyForQuery(wire: Wire): void {
    this.callback(null);
    this.passenger?.handleReadyForQuery(wire);
  }

  // What ours never cause.

  handleRowDescription(message: unknown): void {
    this.passenger?.handleRowDescription(message);
  }

  handlePortalSuspended(wire: Wire): void {
    this.passenger?.handlePortalSuspended(wire);
  }

  handleEmptyQuery(wire: Wire): void {
    this.passenger?.handleEmptyQuery(wire);
  }

  handleCopyInResponse(wire: Wire): void {
    this.passenger?.handleCopyInResponse(wire);
  }

  handleCopyData(message: unknown, wire: Wire): void {
    this.passenger?.handleCopyData(message, wire);
  }
}

/** After an error the driver tells nobody when Postgres is ready again, which is when it is known how the transaction stands. */
function onceReady(wire: Wire, then: () => void): void {
  const done = (): void => {
    wire.off('readyForQuery', done);
    wire.off('end', done);
    then();
  };
  wire.once('readyForQuery', done);
  wire.once('end', done);
}

/** @param tag such as `SELECT 1`, `INSERT 0 1` or `COMMIT` */
function answerOf(tag: string, rows = NO_ROWS): TripAnswer {
  const count = Number(tag.slice(tag.lastIndexOf(' ') + 1));
  return Number.isNaN(count) ? { command: tag, count: 0, rows } : { command: tag.slice(0, tag.indexOf(' ')), count, rows };
}

/** As the driver would do it. */
function sent(value: Value): string | Buffer | null {
  return typeof value === 'number' ? String(value) : (value ?? null);
}

/** Of a driver that reads fields its own way whatever it is told, as a native one does: back to their text. */
function rowsOf({ columns }: Statement, rows: readonly (readonly unknown[])[]): readonly unknown[] {
  return columns === undefined ? NO_ROWS : rows.map((fields) => columns.read(fields.map(textOf)));
}

function textOf(field: unknown): string | null {
  if (field === null) return null;
  return typeof field === 'boolean' ? (field ? 't' : 'f') : String(field as string | number | bigint);
}

/** What is gone is mostly gone with all others. Whatever is not is closed before it is prepared anew. */
function forget(parsedStatements: Wire['parsedStatements']): void {
  for (const name of Object.keys(parsedStatements)) if (name.startsWith('idempotency_')) delete parsedStatements[name];
}

/**
 * “Prepared statement does not exist”: somebody has thrown away what the connection had. Or “cached plan must not change
 * result type”: the table has become another one, and Postgres keeps what was prepared for the old one and won't have it.
 * Either is said before anything is carried out. The next trip prepares it anew.
 */
export function isForgotten(error: unknown): boolean {
  const code = codeOf(error);
  return code === '26000' || (code === '0A000' && (error as { readonly routine?: unknown }).routine === 'RevalidateCachedQuery');
}
