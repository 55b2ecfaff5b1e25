/** What Postgres' own catalogue tells an operator of the server and of our tables, whether they are there or not. */
import { textArray } from './arrays.js';
import { catalogue as statements } from './statements.js';
import type { Deadline, Session, Statement, Value } from './session.js';
import { tablesIn } from './table-name.js';

export interface Server {
  /** Such as `18.4`. */
  readonly version: string;
  /** Such as 180004. */
  readonly number: number;
  /** A standby, or a database that was set so. */
  readonly readOnly: boolean;
  /** Its own clock. */
  readonly now: Date;
}

/** In bytes. */
export interface TableSize {
  readonly table: number;
  readonly indexes: number;
}

export interface Sizes {
  readonly records: TableSize;
  readonly steps: TableSize;
}

export class Catalogue {
  constructor(
    private readonly session: Session,
    private readonly schema: string,
    private readonly patience: () => Deadline,
  ) {}

  async server(): Promise<Server> {
    const [row] = await this.#rows(statements.server, []);
    const { version, number, read_only: readOnly, now } = row!;
    return { version, number, readOnly, now: new Date(now) };
  }

  /** Those of `names` that the schema has. */
  async relations(names: readonly string[]): Promise<ReadonlySet<string>> {
    return new Set(await this.#names(statements.relations, [this.schema, textArray(names)]));
  }

  async schemasWith(relation: string): Promise<readonly string[]> {
    return this.#names(statements.schemasWith, [relation]);
  }

  /** Of tables that are there. */
  async sizes(): Promise<Sizes> {
    const { records, steps } = tablesIn(this.schema);
    const [row] = await this.#rows(statements.sizes, [records, steps]);
    return {
      records: { table: row!.records, indexes: row!.records_indexes },
      steps: { table: row!.steps, indexes: row!.steps_indexes },
    };
  }

  async #names(statement: Statement<{ readonly name: string }>, values: readonly Value[]): Promise<readonly string[]> {
    return (await this.#rows(statement, values)).map(({ name }) => name);
  }

  async #rows<Row>(statement: Statement<Row>, values: readonly Value[]): Promise<readonly Row[]> {
    return (await this.session.run(statement, values, this.patience())).rows;
  }
}
