/**
 * Only for those who limit live keys: everybody else would pay for the index at every claim. Frozen once
 * released: whoever has run it has run this text.
 */
import { tablesIn } from '../lib/store/table-name.js';

const INDEX = 'idempotency_records_scope';

/** As `sql/optional_index_live_keys.up.sql` has it. @param concurrently outside of a transaction: claims go on meanwhile */
export function createLiveKeysIndex(schema?: string, concurrently = true): string {
  return `-- Both columns are written once, at the claim, so that completions stay HOT updates. No other index is in the order of the
-- second one: a count of the newest records goes by this index, whatever the planner knows of the scope.
create index ${concurrently ? 'concurrently ' : ''}if not exists ${INDEX} on ${tablesIn(schema).records} (scope, created_at);
`;
}

/** As `sql/optional_index_live_keys.down.sql` has it. */
export function dropLiveKeysIndex(schema?: string, concurrently = true): string {
  return `drop index ${concurrently ? 'concurrently ' : ''}if exists ${liveKeysIndexIn(schema)};
`;
}

/** What an interrupted `create index concurrently` leaves behind: it counts nothing, and `if not exists` takes it for an index. */
export function invalidLiveKeysIndex(schema?: string): string {
  return `select from pg_index where indexrelid = to_regclass('${liveKeysIndexIn(schema).replaceAll("'", "''")}') and not indisvalid`;
}

/** An index is in its table's schema. */
function liveKeysIndexIn(schema: string | undefined): string {
  return tablesIn(schema).records.replace(/idempotency_records$/, INDEX);
}
