-- For those who migrate without TypeORM. Unqualified names: search_path decides where the table is. Run it in one transaction:
--   psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f 0002_create_idempotency_steps.up.sql
-- and for another schema than the role's first, which must exist already:
--   PGOPTIONS='-c search_path=my_schema' psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f 0002_create_idempotency_steps.up.sql

-- Several instances may migrate at once: the others wait here, and then find everything in place.
select pg_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0));

-- No foreign key to the records: whoever records a step must not wait for whoever holds its record. Where tables are
-- distributed, this one goes by the same id, so that a record and its steps are in one place.
create table if not exists idempotency_steps (
  id          uuid        not null,             -- the record's
  life        timestamptz not null,             -- the record's created_at: what an earlier record of the same key left behind is not seen
  owner       uuid        not null,             -- who recorded it
  created_at  timestamptz not null,
  position    integer     not null,             -- counts on with every step of a life
  name        text        collate "C" not null,
  result      bytea       not null,             -- JSON in UTF-8; empty where the step returned nothing
  primary key (id, life, name)
) with (
  -- A step is written once and goes with its record; see there.
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = -1
);

-- lz4 takes half the time of the default for large results. Servers built without it keep the default.
do '
begin
  alter table idempotency_steps alter column result set compression lz4;
exception
  when feature_not_supported then null;
end';
