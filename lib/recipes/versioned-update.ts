/**
 * Changes a row only in the version that somebody has seen, and counts it on: of two editors who
 * started from the same version, the second one hears of the first. Postgres compares, writes and
 * counts in one statement; which versions are meant is read from the request elsewhere.
 */
import type { EntityManager, EntityTarget } from 'typeorm';
import { PreconditionFailed } from '../contract/errors.js';
import type { VersionCondition } from '../contract/version-condition.js';
import { RecipeTable } from './columns.js';
import type { Column, ColumnName, ColumnValues, RowCondition } from './columns.js';
import { changesOf, conditionalUpdate } from './conditional-update.js';

export interface VersionedUpdateOptions<Entity> {
  /** The property that counts the versions; default: the entity's `@VersionColumn`. */
  readonly column?: ColumnName<Entity>;
}

/** Whole numbers of Postgres, as TypeORM names them. */
const COUNTS: ReadonlySet<unknown> = new Set([
  Number,
  'int',
  'integer',
  'int2',
  'int4',
  'int8',
  'smallint',
  'bigint',
  'numeric',
  'decimal',
]);

/**
 * Writes `changes` to the row that `where` names if its version meets `condition`, adds one to the
 * version, and keeps an `@UpdateDateColumn` up. What is `undefined` in `changes` stays as it is, so a
 * PATCH can hand its body over; with no changes the version alone is counted. Subscribers are not
 * called, since TypeORM would tell them of a change that may not have been made. Under REPEATABLE READ
 * and SERIALIZABLE, to be overtaken within the transaction is a serialization failure (40001) first.
 *
 * @param where names one row by its primary key or by a unique constraint of the entity, and may narrow it further
 * @returns the new version
 * @throws PreconditionFailed (412) if the version is another one, and if there is no such row: RFC 9110,
 *   section 13.1.1 has both as a condition that is false. For 404 look for the row first.
 * @throws RecipeMisused for a `where` that more than one row may fit, an unknown column, `undefined` in `where`, or an entity without versions
 */
export async function updateVersioned<Entity extends object>(
  manager: EntityManager,
  entity: EntityTarget<Entity>,
  where: RowCondition<NoInfer<Entity>>,
  condition: VersionCondition,
  changes: ColumnValues<NoInfer<Entity>>,
  options: VersionedUpdateOptions<NoInfer<Entity>> = {},
): Promise<number> {
  const table = new RecipeTable('updateVersioned', manager, entity);
  const column = versionColumn(table, options.column);
  const versions = wantedVersions(table, condition);
  if (changesOf(table, changes, 'changes', { undefined: true }).some((given) => given.column === column)) {
    throw table.misuse(`counts ${column.propertyPath} itself. Leave it out of changes.`);
  }
  const set = { ...table.withoutUndefined(changes), ...counted(table, column) };
  const update = conditionalUpdate(table, manager, { where, expected: [], set });
  if (versions !== '*') {
    if (versions.length === 0) throw new PreconditionFailed();
    // As bigint, since a client may name a version beyond the column's range: it is none, and no error.
    update.andWhere(`${table.quoted(column)} = ANY(CAST(:versions AS bigint[]))`, { versions });
  }
  const { raw } = await update.returning([column.propertyPath]).execute();
  const [row] = raw as Record<string, unknown>[];
  if (row === undefined) throw new PreconditionFailed();
  return Number(row[column.databaseName]);
}

function versionColumn(table: RecipeTable, name: string | undefined): Column {
  const [column] = name === undefined ? [table.metadata.versionColumn] : table.columnsOf(name, 'column');
  if (column === undefined)
    throw table.misuse(`finds no @VersionColumn in ${table.name}. Add one, or name the property that counts in { column }.`);
  if (COUNTS.has(column.type)) return column;
  throw table.misuse(
    `counts versions in whole numbers, and ${column.propertyPath} is none. Give ${table.name} an integer column for them.`,
  );
}

function wantedVersions(table: RecipeTable, condition: VersionCondition): readonly number[] | '*' {
  if (condition === '*') return condition;
  const versions = [condition].flat();
  if (versions.every(Number.isSafeInteger)) return versions;
  throw table.misuse(
    `takes a version, a list of versions or '*' as its condition. Hand over what @ExpectedVersion() gave, or whole numbers.`,
  );
}

/** TypeORM counts a `@VersionColumn` by itself. */
function counted(table: RecipeTable, column: Column): object {
  return column === table.metadata.versionColumn ? {} : column.createValueMap(() => `COALESCE(${table.quoted(column)}, 0) + 1`);
}
