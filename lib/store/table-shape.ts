/** What the statements expect of the tables, so that missing or older ones are told at boot and not at the first request. */
import { SchemaMissing, SchemaOutdated } from '../contract/errors.js';
import type { Tables } from './table-name.js';

interface Shape {
  readonly columns: Readonly<Record<string, string>>;
  /** The columns of its primary key, in alphabetical order: the referee of every race. */
  readonly key: readonly string[];
}

const SHAPES: Readonly<Record<keyof Tables, Shape>> = {
  records: {
    columns: {
      id: 'uuid',
      scope: 'text',
      operation: 'text',
      key: 'text',
      fingerprint: 'bytea',
      owner: 'uuid',
      state: 'smallint',
      attempt: 'integer',
      status: 'smallint',
      headers: 'bytea',
      body: 'bytea',
      created_at: 'timestamp with time zone',
      locked_until: 'timestamp with time zone',
      completed_at: 'timestamp with time zone',
      expires_at: 'timestamp with time zone',
      reap_after: 'timestamp with time zone',
    },
    key: ['id'],
  },
  steps: {
    columns: {
      id: 'uuid',
      life: 'timestamp with time zone',
      owner: 'uuid',
      created_at: 'timestamp with time zone',
      position: 'integer',
      name: 'text',
      result: 'bytea',
    },
    key: ['id', 'life', 'name'],
  },
};

export interface ShapeRow {
  readonly synchronous_commit: string;
  /** Both a JSON object, as the statement has it; `null` where there is no table. */
  readonly records: string | null;
  readonly steps: string | null;
}

interface FoundShape {
  readonly columns: Readonly<Record<string, string>>;
  /** The columns of each unique index, in alphabetical order. */
  readonly unique: readonly (readonly string[])[] | null;
}

/** @throws SchemaMissing, SchemaOutdated */
export function assertFits({ records, steps }: Pick<ShapeRow, keyof Tables>, tables: Tables): void {
  if (records === null) throw new SchemaMissing(tables.records);
  if (!fits(records, SHAPES.records)) throw new SchemaOutdated(tables.records);
  if (steps === null) throw new SchemaMissing(tables.steps);
  if (!fits(steps, SHAPES.steps)) throw new SchemaOutdated(tables.steps);
}

function fits(json: string, { columns, key }: Shape): boolean {
  const found = JSON.parse(json) as FoundShape;
  const isUnique = found.unique?.some((index) => index.length === key.length && key.every((column) => index.includes(column)));
  return isUnique === true && Object.entries(columns).every(([column, type]) => found.columns[column] === type);
}
