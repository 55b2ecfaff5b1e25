/** The only place where an identifier is put into SQL. */
import { createHash } from 'node:crypto';

/** Postgres cuts identifiers at 63 bytes (NAMEDATALEN - 1), which would make two names one. */
const MAX_IDENTIFIER_BYTES = 63;

/** Quotes an identifier, so that a schema may be called anything that Postgres allows. */
export function quoteIdentifier(name: string): string {
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > MAX_IDENTIFIER_BYTES) {
    throw new TypeError('A schema name has 1 to 63 bytes and no NUL character.');
  }
  return `"${name.replaceAll('"', '""')}"`;
}

export interface Tables {
  readonly records: string;
  readonly steps: string;
}

/** Table names in `schema`; without one, unqualified, so that `search_path` decides. */
export function tablesIn(schema: string | undefined): Tables {
  const prefix = schema === undefined ? '' : `${quoteIdentifier(schema)}.`;
  return { records: `${prefix}idempotency_records`, steps: `${prefix}idempotency_steps` };
}

/** On which the end of records in that table is told. A digest: any name of a schema fits, and needs no quotes. */
export function channelOf(records: string): string {
  return `idempotency_${createHash('sha256').update(records).digest('hex').slice(0, 16)}`;
}
