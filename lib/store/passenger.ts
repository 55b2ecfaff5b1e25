/**
 * A statement of the handler's that goes along in a trip of ours, behind our statements and before the one “Sync”:
 * Postgres passes it over if any of ours fails. It is the driver's own object, made by the driver's own `query`, so
 * tracers see a statement as any other; it writes itself to the wire and reads its own answer. Of the driver's inside
 * two things are known here: its queue, out of which it is taken, and how the driver talks to what it queues.
 */
import type { PoolClient } from 'pg';

/** The connection, as far as it is written to from here. */
export interface Line {
  /** Texts by name, of what is prepared on this connection. All who use it keep to this one. */
  readonly parsedStatements: Record<string, string>;
  /** Names that are under way. Older versions don't know. */
  readonly submittedNamedStatements?: Record<string, string>;
  readonly stream: { cork?(): void; uncork?(): void; destroy(): void };
  sync(): void;
}

/** What the driver queues. */
interface DriversQuery {
  readonly text?: string;
  readonly name?: string;
  /** A limit, with which it would keep a portal open. */
  readonly rows?: number;
  requiresPreparation?(): boolean;
  /** Tells what is wrong with it, if anything is. */
  submit(line: Line): Error | null;
  handleRowDescription(message: unknown): void;
  handleDataRow(message: unknown): void;
  handlePortalSuspended(line: Line): void;
  handleEmptyQuery(line: Line): void;
  handleCommandComplete(message: unknown, line: Line): void;
  handleCopyInResponse(line: Line): void;
  handleCopyData(message: unknown, line: Line): void;
  handleError(error: unknown, line: Line): void;
  handleReadyForQuery(line: Line): void;
}

/** What a handler gives the driver: a text and values, an object that has them, or one that sends itself. */
export type Sent = readonly unknown[];

/** Whether the driver would write this in such a way that it can go along: a text without values can be several statements. */
export function canGoAlong([query, values]: Sent): boolean {
  if (typeof query !== 'object' || query === null) return hasAny(values);
  if ('submit' in query || ('rows' in query && Boolean(query.rows))) return false;
  return ('name' in query && Boolean(query.name)) || hasAny('values' in query && query.values !== undefined ? query.values : values);
}

const hasAny = (values: unknown): boolean => Array.isArray(values) && values.length > 0;

/** Whether this driver's connection is one on which a statement can go along. */
export function takesAlong(client: PoolClient): boolean {
  const { connection, pipeline } = client as unknown as { readonly connection?: Partial<Line>; readonly pipeline?: boolean };
  return pipeline !== true && connection?.parsedStatements !== undefined && queueOf(client) !== undefined;
}

/** The driver's inside. Its public name goes, and warns; older versions have that one only. */
interface Queueing {
  readonly _queryQueue?: unknown;
  readonly queryQueue?: unknown;
}

function queueOf(client: PoolClient): DriversQuery[] | undefined {
  const inside = client as unknown as Queueing;
  const queue = inside._queryQueue ?? inside.queryQueue;
  return Array.isArray(queue) ? (queue as DriversQuery[]) : undefined;
}

export class Passenger {
  #query: DriversQuery | undefined;
  #line: Line | undefined;
  #hasBoarded = false;
  /** It was handed to the driver, and does not go along. */
  #isAstray = false;

  get name(): string | undefined {
    return this.#query?.name;
  }

  get text(): string | undefined {
    return this.#query?.text;
  }

  /** Ours are written. The first time it is to be known yet what goes along, and they stay where they are until then. */
  join(line: Line): void {
    this.#line = line;
    if (this.#hasBoarded) this.#leave(line);
    else line.stream.cork?.();
  }

  /** Ours are written and stay where they are. If they are not, they don't wait for anybody any more. */
  isWaitedFor(): boolean {
    this.#hasBoarded = this.#line === undefined;
    return !this.#hasBoarded;
  }

  /** What has been handed to the driver just now goes along, if it can; and the trip leaves. */
  board(client: PoolClient): void {
    const queue = queueOf(client)!;
    const line = this.#line!;
    this.#hasBoarded = true;
    if (queue.length === 1 && fits(queue[0]!)) this.#query = queue.shift();
    this.#isAstray = this.#query === undefined;
    this.#leave(line);
    line.stream.uncork?.();
  }

  #leave(line: Line): void {
    const query = this.#query;
    const fault = query?.submit(line) ?? undefined;
    if (query === undefined || fault !== undefined) line.sync();
    if (query === undefined || fault === undefined) return;
    this.#query = undefined;
    process.nextTick(() => query.handleError(fault, line));
  }

  /** One of ours has failed. What waits behind them in the driver's queue, or gets there yet, must not be carried out without its transaction. */
  passedOver({ submittedNamedStatements, stream }: Line): void {
    if (this.name !== undefined && submittedNamedStatements !== undefined) delete submittedNamedStatements[this.name];
    if (this.#isAstray) stream.destroy();
  }

  /** It is not carried out. */
  refuse(error: unknown): void {
    this.handleError(error, this.#line!);
  }

  handleRowDescription(message: unknown): void {
    this.#query?.handleRowDescription(message);
  }

  handleDataRow(message: unknown): void {
    this.#query?.handleDataRow(message);
  }

  handlePortalSuspended(line: Line): void {
    this.#query?.handlePortalSuspended(line);
  }

  handleEmptyQuery(line: Line): void {
    this.#query?.handleEmptyQuery(line);
  }

  handleCommandComplete(message: unknown, line: Line): void {
    this.#query?.handleCommandComplete(message, line);
  }

  handleCopyInResponse(line: Line): void {
    this.#query?.handleCopyInResponse(line);
  }

  handleCopyData(message: unknown, line: Line): void {
    this.#query?.handleCopyData(message, line);
  }

  /** It may be told what has become of it before its transaction is given up, and is told once. */
  handleError(error: unknown, line: Line): void {
    const query = this.#query;
    this.#query = undefined;
    query?.handleError(error, line);
  }

  handleReadyForQuery(line: Line): void {
    this.#query?.handleReadyForQuery(line);
  }
}

/** A limit of rows would make it wait for more than one “Sync”. */
function fits(query: DriversQuery): boolean {
  return query.requiresPreparation?.() === true && !query.rows;
}
