/**
 * The tables, as TypeORM migrations in the order in which they are run. The same SQL is in `sql/`,
 * for those who migrate by other means.
 *
 * @module nestjs-idempotency-pg/migrations
 */
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { createIdempotencyRecords, createSchema, dropIdempotencyRecords } from './1764000000000-create-idempotency-records.js';
import { createIdempotencySteps, dropIdempotencySteps } from './1767000000000-create-idempotency-steps.js';
import { createLiveKeysIndex, dropLiveKeysIndex, invalidLiveKeysIndex } from './1768000000000-index-live-keys.js';

export type IdempotencyMigration = new () => MigrationInterface;

export interface MigrationChoices {
  readonly schema: string;
  /** Whether some route limits live keys. Default: `false`. */
  readonly maxLiveKeys?: boolean;
}

/** For `migrations: [...idempotencyMigrations, ...yourOwn]` of a DataSource: the tables in schema `public`. */
export const idempotencyMigrations: IdempotencyMigration[] = idempotencyMigrationsFor({ schema: 'public' });

/**
 * The same for any schema. Give the module the same `schema`. A schema other than `public` has its
 * name in the migrations' names, so that TypeORM tells those of two schemas apart and a change of
 * schema is a migration still to be run.
 *
 * With `maxLiveKeys` the index is among them that the module's option of that name needs. On a table that
 * is in use, run it outside of a transaction (`migration:run --transaction none`), and no claim waits for it.
 */
export function idempotencyMigrationsFor({ schema, maxLiveKeys = false }: MigrationChoices): IdempotencyMigration[] {
  const place = schema === 'public' ? '' : `_${schema}_`;

  return [
    class CreateIdempotencyRecords1764000000000 implements MigrationInterface {
      readonly name = `CreateIdempotencyRecords${place}1764000000000`;

      async up(runner: QueryRunner): Promise<void> {
        await runner.query(
          (await schemaIsMissing(runner, schema))
            ? createSchema(schema) + createIdempotencyRecords(schema)
            : createIdempotencyRecords(schema),
        );
      }

      async down(runner: QueryRunner): Promise<void> {
        await runner.query(dropIdempotencyRecords(schema)); // the schema stays: other tables may have moved in
      }
    },

    class CreateIdempotencySteps1767000000000 implements MigrationInterface {
      readonly name = `CreateIdempotencySteps${place}1767000000000`;

      async up(runner: QueryRunner): Promise<void> {
        await runner.query(createIdempotencySteps(schema));
      }

      async down(runner: QueryRunner): Promise<void> {
        await runner.query(dropIdempotencySteps(schema));
      }
    },

    ...(maxLiveKeys ? [indexLiveKeys(schema, place)] : []),
  ];
}

/** Postgres builds an index beside running claims only where no transaction is open, which is the caller's choice. */
function indexLiveKeys(schema: string, place: string): IdempotencyMigration {
  return class IndexIdempotencyLiveKeys1768000000000 implements MigrationInterface {
    readonly name = `IndexIdempotencyLiveKeys${place}1768000000000`;

    async up(runner: QueryRunner): Promise<void> {
      const concurrently = !runner.isTransactionActive;
      const invalid: unknown[] = await runner.query(invalidLiveKeysIndex(schema));
      if (invalid.length > 0) await runner.query(dropLiveKeysIndex(schema, concurrently));
      await runner.query(createLiveKeysIndex(schema, concurrently));
    }

    async down(runner: QueryRunner): Promise<void> {
      await runner.query(dropLiveKeysIndex(schema, !runner.isTransactionActive));
    }
  };
}

/**
 * The first thing an application's fresh database lacks is the schema, and TypeORM makes none. We
 * look first, since `if not exists` asks for the right to create schemas even when nothing is to be
 * created, and the role that runs migrations may own one schema and nothing else.
 */
async function schemaIsMissing(runner: QueryRunner, schema: string): Promise<boolean> {
  const found: unknown[] = await runner.query('select from pg_namespace where nspname = $1', [schema]);
  return found.length === 0;
}
