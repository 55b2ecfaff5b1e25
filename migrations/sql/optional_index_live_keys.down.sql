-- Only for those who use the option maxLiveKeys, and for those who migrate without TypeORM. Unqualified names: search_path
-- decides where the table is. Not in a transaction, so that claims go on while the index is built:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f optional_index_live_keys.down.sql
-- and for another schema than the role's first:
--   PGOPTIONS='-c search_path=my_schema' psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f optional_index_live_keys.down.sql

drop index concurrently if exists idempotency_records_scope;
