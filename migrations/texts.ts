/**
 * The migrations as texts, in the order in which they are run, for whoever runs them without TypeORM:
 * the command line. Each may be run twice, and a file in `sql/` has its name.
 */
import { createIdempotencyRecords, dropIdempotencyRecords } from './1764000000000-create-idempotency-records.js';
import { createIdempotencySteps, dropIdempotencySteps } from './1767000000000-create-idempotency-steps.js';
import { createLiveKeysIndex, dropLiveKeysIndex } from './1768000000000-index-live-keys.js';

export { createSchema } from './1764000000000-create-idempotency-records.js';

export interface MigrationText {
  readonly name: string;
  /** The relation that is in the schema once it was run, by whatever means, and not before. */
  readonly makes: string;
  /** Without a schema the names are unqualified, so that `search_path` decides. */
  up(schema?: string): string;
  down(schema?: string): string;
}

/** To be run in one transaction. */
export const migrationTexts: readonly MigrationText[] = [
  {
    name: '0001_create_idempotency_records',
    makes: 'idempotency_records',
    up: createIdempotencyRecords,
    down: dropIdempotencyRecords,
  },
  {
    name: '0002_create_idempotency_steps',
    makes: 'idempotency_steps',
    up: createIdempotencySteps,
    down: dropIdempotencySteps,
  },
];

/** To be run outside of one, after the others, and only for those who limit live keys. */
export const liveKeysIndexText: MigrationText = {
  name: 'optional_index_live_keys',
  makes: 'idempotency_records_scope',
  up: (schema) => createLiveKeysIndex(schema),
  down: (schema) => dropLiveKeysIndex(schema),
};
