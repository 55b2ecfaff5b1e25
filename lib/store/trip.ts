/**
 * Several statements in one trip to Postgres, on a connection that is the application's. It knows the
 * wire and the driver, and nothing of what the statements mean.
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
import { codeOf } from './postgres-error.js';
import type { Statement } from './session.js';

/** Everything else would need the driver's own ways of writing it. */
export type TripValue = string | number | Buffer | null;

export interface TripStatement {
  readonly statement: Statement;
  readonly values?: readonly TripValue[];
}

export interface TripAnswer {
  /** As Postgres names it: `SELECT`, `COMMIT` … A COMMIT of what had failed before is a `ROLLBACK`. */
  readonly command: string;
  /** Rows read, written or deleted. */
  readonly count: number;
}

/** What `pg` does not declare, or declares otherwise. */
interface Wire {
  /** Texts by name, of what is prepared on this connection. All who use it keep to this one. */
  readonly parsedStatements: Record<string, string>;
  readonly stream: { cork?(): void; uncork?(): void };
  parse(statement: Statement): void;
  bind(parts: { readonly statement: string; readonly values: readonly (string | Buffer | null)[] }): void;
  execute(parts: object): void;
  close(parts: { readonly type: 'S'; readonly name: string }): void;
  sync(): void;
}

interface ClientInside {
  readonly connection?: Partial<Wire>;
  readonly pipeline?: boolean;
}

export class Trip {
  readonly answers: TripAnswer[] = [];
  /** What the first error was, and which statement's. */
  failure: { readonly at: number; readonly error: unknown } | undefined;
  /** The driver puts its own before it when it has a time limit. */
  callback: (error: unknown) => void = () => undefined;

  /** @param prepare whether statements may stay prepared on the connection */
  constructor(
    private readonly statements: readonly TripStatement[],
    private readonly prepare: boolean,
  ) {}

  /** For whoever watches what is sent. */
  get text(): string {
    return this.statements.map(({ statement }) => statement.text.trim()).join(';\n');
  }

  get names(): readonly string[] {
    return this.statements.map(({ statement }) => statement.name);
  }

  /** @throws the first error. What came after it was passed over, or found its transaction aborted. */
  async on(client: PoolClient): Promise<readonly TripAnswer[]> {
    const { connection, pipeline } = client as unknown as ClientInside;
    if (pipeline === true) await Promise.all(this.statements.map((_, i) => this.#sendAlone(client, i)));
    else if (connection?.parsedStatements === undefined) for (const i of this.statements.keys()) await this.#sendAlone(client, i);
    else await this.#sendTogether(client);
    return this.answers;
  }

  #sendTogether(client: PoolClient): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.callback = (error) => (error === null ? resolve() : reject(error as Error));
      client.query(this as never);
    });
  }

  async #sendAlone(client: PoolClient, i: number): Promise<void> {
    const { statement, values = [] } = this.statements[i]!;
    try {
      const name = this.prepare ? statement.name : undefined;
      const { command, rowCount } = await client.query({ name, text: statement.text, values: [...values] });
      this.answers[i] = { command, count: rowCount ?? 0 };
    } catch (error) {
      this.failure ??= { at: i, error };
      throw error;
    }
  }

  submit(wire: Wire): void {
    wire.stream.cork?.();
    for (const { statement, values = [] } of this.statements) {
      const name = this.#prepared(wire, statement);
      wire.bind({ statement: name, values: values.map((value) => (typeof value === 'number' ? String(value) : value)) });
      wire.execute({});
    }
    wire.sync();
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

  handleDataRow(): void {
    // what matters is how many
  }

  handleCommandComplete({ text }: { readonly text: string }, wire: Wire): void {
    const { statement } = this.statements[this.answers.length]!;
    if (this.prepare) wire.parsedStatements[statement.name] ??= statement.text;
    const [, command = '', count = 0] = /^(.*?)(?: (\d+))*$/.exec(text) ?? [];
    this.answers.push({ command, count: Number(count) });
  }

  handleError(error: unknown, wire: Wire): void {
    this.failure ??= { at: this.answers.length, error };
    if (isForgotten(error)) forget(wire.parsedStatements);
    this.callback(error);
  }

  handleReadyForQuery(): void {
    this.callback(null);
  }
}

/** What is gone is mostly gone with all others. Whatever is not is closed before it is prepared anew. */
function forget(parsedStatements: Wire['parsedStatements']): void {
  for (const name of Object.keys(parsedStatements)) if (name.startsWith('idempotency_')) delete parsedStatements[name];
}

/** “Prepared statement does not exist”: somebody has thrown away what the connection had. The next trip prepares it anew. */
export function isForgotten(error: unknown): boolean {
  return codeOf(error) === '26000';
}
