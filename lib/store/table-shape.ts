/** What the statements expect of the table, so that a missing or older one is told at boot and not at the first request. */

const COLUMNS: Readonly<Record<string, string>> = {
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
};

export interface ShapeRow {
  readonly synchronous_commit: string;
  /** A JSON object from column to type; `null` where there is no table. */
  readonly columns: string | null;
  /** Whether a unique index stands on `id` alone: the referee of every race. */
  readonly unique_id: boolean;
}

export function fits({ columns, unique_id: uniqueId }: Pick<ShapeRow, 'unique_id'> & { readonly columns: string }): boolean {
  const found = JSON.parse(columns) as Readonly<Record<string, string>>;
  return uniqueId && Object.entries(COLUMNS).every(([column, type]) => found[column] === type);
}
