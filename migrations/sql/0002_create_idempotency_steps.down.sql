-- For those who migrate without TypeORM. Unqualified names: search_path decides where the table is. Run it in one transaction:
--   psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f 0002_create_idempotency_steps.down.sql
-- and for another schema than the role's first, which must exist already:
--   PGOPTIONS='-c search_path=my_schema' psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f 0002_create_idempotency_steps.down.sql

select pg_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0));

drop table if exists idempotency_steps;
