/**
 * Which columns a statement returns, and what their text means here. It stands beside the statement's SQL:
 * Postgres then need not describe them with every answer, and the driver need not make a reader of that. And it
 * is our own reading, since an application may have changed the driver's process-wide one (for `int8` or for
 * dates that is common).
 */

/** `text` is whatever stays as Postgres writes it, and `number` a number that JavaScript can hold: a count, not a decimal. */
export type ColumnKind = 'text' | 'number' | 'boolean';

type KindOf<Value> = Value extends string ? 'text' : Value extends number ? 'number' : 'boolean';
type KindsOf<Row> = { readonly [Name in keyof Row]-?: KindOf<NonNullable<Row[Name]>> };

export class Columns<Row> {
  readonly names: readonly string[];
  readonly kinds: readonly ColumnKind[];
  /** Copied for each row: so all rows of a statement are of one shape from the start. */
  readonly #empty: Readonly<Record<string, unknown>>;

  /** @param kinds in the order in which the statement returns them */
  constructor(kinds: KindsOf<Row>) {
    this.names = Object.keys(kinds);
    this.kinds = Object.values(kinds);
    this.#empty = Object.fromEntries(this.names.map((name) => [name, null]));
  }

  /** @param fields in text format, in their order */
  read(fields: readonly (string | null)[]): Row {
    const row = { ...this.#empty };
    for (let i = 0; i < fields.length; i += 1) {
      const field = fields[i];
      if (typeof field === 'string') row[this.names[i]!] = valueOf(field, this.kinds[i]!);
    }
    return row as Row;
  }
}

function valueOf(field: string, kind: ColumnKind): unknown {
  if (kind === 'text') return field;
  return kind === 'number' ? Number(field) : field === 't';
}
