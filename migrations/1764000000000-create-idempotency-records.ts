/** Frozen once released: whoever has run it has run this text. */
import { quoteIdentifier, tablesIn } from '../lib/store/table-name.js';

/** Holds to the end of the transaction. To be taken again by who has it costs nothing. */
const ONE_AT_A_TIME = `select pg_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0));`;

/**
 * The statements as `sql/0001_create_idempotency_records.up.sql` has them. They are sent as one
 * text, which Postgres runs in one transaction even where the caller has opened none, so that the
 * lock at its start holds to its end.
 */
export function createIdempotencyRecords(schema?: string): string {
  const { records } = tablesIn(schema);
  return `-- Several instances may migrate at once: the others wait here, and then find everything in place.
${ONE_AT_A_TIME}

-- Wide columns first and fixed ones before the varying, so that no byte goes into alignment.
create table if not exists ${records} (
  id            uuid        not null primary key, -- digest of scope, operation and key: less than half the index of the texts
  owner         uuid        not null,             -- random, new for every claim; every write of an owner compares it
  created_at    timestamptz not null,
  locked_until  timestamptz,                      -- end of a running record's lease
  completed_at  timestamptz,
  expires_at    timestamptz,                      -- of a record that is not running; from then on the key is free
  reap_after    timestamptz not null,             -- no record of this claim can have expired earlier
  attempt       integer     not null,
  state         smallint    not null,             -- 0 running, 1 completed, 2 sealed, 3 open
  status        smallint,
  scope         text        collate "C" not null,
  operation     text        collate "C" not null,
  key           text        collate "C" not null,
  fingerprint   bytea       not null,
  headers       bytea,                            -- JSON in UTF-8; bytes, so that they can be encrypted some day without a rewrite
  body          bytea                             -- the answer byte for byte, which jsonb would not keep
) with (
  -- A row is written twice and deleted once. The first version dies at completion, mostly pruned in passing; what is
  -- left for vacuum are the deleted rows, in a day as many as the table holds. By default it would come when a fifth of
  -- the table is dead; smaller bites keep the table from growing beyond its live rows.
  autovacuum_vacuum_scale_factor = 0.05,
  -- Vacuum after inserts alone serves tables that are only appended to. Here every row is deleted in the end.
  autovacuum_vacuum_insert_threshold = -1
  -- The fillfactor stays at 100: a completion mostly finds room on its page anyway (HOT updates were seen in 92 of 100
  -- cases under load), whereas pages with room spread new claims over the table, and each touches another page,
  -- which after a checkpoint goes into the WAL as a whole.
);

-- For the reaper. It stands on a column that is written once, at the claim: on expires_at, which a completion sets, it
-- would keep completions from being HOT updates.
create index if not exists idempotency_records_reap_after on ${records} (reap_after);

-- lz4 takes half the time of the default for large bodies. Servers built without it keep the default.
do '
begin
  alter table ${quoted(records)} alter column body set compression lz4;
exception
  when feature_not_supported then null;
end';
`;
}

export function dropIdempotencyRecords(schema?: string): string {
  return `${ONE_AT_A_TIME}

drop table if exists ${tablesIn(schema).records};
`;
}

/** To be sent in one text with what comes after it, under the same lock. */
export function createSchema(schema: string): string {
  return `${ONE_AT_A_TIME}

create schema if not exists ${quoteIdentifier(schema)};

`;
}

/** Inside a string constant. */
function quoted(text: string): string {
  return text.replaceAll("'", "''");
}
