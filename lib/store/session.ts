/**
 * What the store asks of a connection to Postgres: run one statement, in time or not at all. Who
 * keeps the connections, and what is done about a broken one, is behind this.
 */
import type { Clock } from '../contract/clock.js';
import type { Columns } from './columns.js';

export interface Statement<Row = unknown> {
  /** The prepared statement's name, and the span's. */
  readonly name: string;
  readonly text: string;
  /** None: what matters is how many rows there are. */
  readonly columns?: Columns<Row>;
}

/** Bytes go as they are, a number as text. An array is written by whoever has one: see arrays.ts. */
export type Value = string | number | Buffer | null | undefined;

export interface Answer<Row> {
  /** Of a statement that names its columns. */
  readonly rows: readonly Row[];
  /** Rows read, written or deleted. */
  readonly count: number;
  /** The process that is said to serve the connection. A pooler in between makes one up. */
  readonly backend: number | undefined;
}

/** The instant, on the process's own clock, at which somebody stops waiting. */
export class Deadline {
  constructor(
    private readonly clock: Clock,
    readonly at: number,
  ) {}

  leftMs(): number {
    return Math.max(0, this.at - this.clock.now());
  }
}

export function deadlineIn(clock: Clock, withinMs: number): Deadline {
  return new Deadline(clock, clock.now() + withinMs);
}

export interface Session {
  /** @throws StoreUnavailable, with Postgres' or the network's own error as its `cause` */
  run<Row = never>(statement: Statement<Row>, values: readonly Value[], deadline: Deadline): Promise<Answer<Row>>;
  /** Gives every connection back. What is still under way fails with `StoreUnavailable`. */
  close(): Promise<void>;
}
