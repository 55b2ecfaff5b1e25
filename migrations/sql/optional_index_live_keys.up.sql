-- Only for those who use the option maxLiveKeys, and for those who migrate without TypeORM. Unqualified names: search_path
-- decides where the table is. Not in a transaction, so that claims go on while the index is built:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f optional_index_live_keys.up.sql
-- and for another schema than the role's first:
--   PGOPTIONS='-c search_path=my_schema' psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f optional_index_live_keys.up.sql
-- If it was interrupted, it leaves an invalid index: apply the .down.sql, and this one again.

-- Both columns are written once, at the claim, so that completions stay HOT updates. No other index is in the order of the
-- second one: a count of the newest records goes by this index, whatever the planner knows of the scope.
create index concurrently if not exists idempotency_records_scope on idempotency_records (scope, created_at);
