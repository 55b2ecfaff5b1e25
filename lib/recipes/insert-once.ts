/**
 * Inserts a row unless there is one with the same values in unique columns, and hands over whichever
 * stands there then. The unique constraint is the judge: a look beforehand would find nothing in both
 * of two requests at once. Whose row it is and what it says is the caller's to check.
 */
import type { EntityManager, EntityTarget, InsertQueryBuilder } from 'typeorm';
import { InsertUndecided } from '../contract/errors.js';
import { RecipeTable } from './columns.js';
import type { Column, ColumnName, ColumnValues, Condition, Given } from './columns.js';

export interface InsertOnceOptions<Entity> {
  /** The properties whose columns a unique constraint covers, all of them and no others. */
  readonly unique: readonly ColumnName<Entity>[];
}

export interface InsertedOnce<Entity> {
  /** The row of these unique values, inserted now or found. */
  readonly row: Entity;
  /** Whether it is the one that was handed over. */
  readonly inserted: boolean;
}

/**
 * Each is lost only if another transaction's row stands in the way of the insert and is deleted before
 * it is looked for. Twice in a row is bad luck already.
 */
const MOST_ATTEMPTS = 5;

/**
 * Inserts `row`, or finds the one that has its `unique` values. While another transaction is inserting
 * the same, this waits for its end. Under REPEATABLE READ and SERIALIZABLE a row that was committed
 * after the transaction's start can't be seen, and Postgres says so by a serialization failure (40001),
 * as it does in every such case: `retries` repeats the handler. No error is met by a conflict, so that
 * the caller's transaction goes on. Subscribers are not called, since TypeORM would tell them of an
 * insert that may not have been made.
 *
 * @throws RecipeMisused for unique columns without a unique constraint or without a value, and for unknown columns
 * @throws InsertUndecided (503) if a row stands in the way and can't be seen
 * @throws QueryFailedError from the database, as when another unique constraint is violated
 */
export async function insertOnce<Entity extends object>(
  manager: EntityManager,
  entity: EntityTarget<Entity>,
  row: ColumnValues<NoInfer<Entity>>,
  { unique }: InsertOnceOptions<NoInfer<Entity>>,
): Promise<InsertedOnce<Entity>> {
  const table = new RecipeTable('insertOnce', manager, entity);
  const given = table.given(row, 'row', { undefined: true });
  refuseUninserted(table, given);
  const judge = judgeOf(table, given, unique);
  return onOneConnection(manager, async (connected) => {
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
      const inserted = await insert<Entity>(table, connected, row, judge);
      if (inserted !== undefined) return { row: inserted, inserted: true };
      const found = await find<Entity>(table, connected, judge);
      if (found !== undefined) return { row: found, inserted: false };
    }
    throw new InsertUndecided();
  });
}

/** TypeORM leaves such columns out without a word. */
function refuseUninserted(table: RecipeTable, given: readonly Given[]): void {
  for (const { column } of given) {
    if (column.isInsert && column.generationStrategy !== 'increment') continue;
    throw table.misuse(`can't insert ${column.propertyPath}, whose value is not the application's to give. Leave it out of row.`);
  }
}

/** What decides: the columns of a unique constraint, the part of the table it is limited to, and the row's values there. */
interface Judge {
  readonly columns: readonly string[];
  readonly predicate: string | undefined;
  readonly values: Condition;
}

function judgeOf(table: RecipeTable, given: readonly Given[], unique: readonly string[]): Judge {
  const columns = unique.flatMap((name) => table.columnsOf(name, 'unique'));
  if (columns.length === 0) throw table.misuse('needs the columns of a unique constraint. Name them in { unique: [...] }.');
  const values = columns.map((column) => valueOf(table, given, column));
  return {
    columns: columns.map(({ databaseName }) => databaseName),
    predicate: predicateOf(table, columns),
    values: table.equal(values, 'unique'),
  };
}

/** Null is equal to nothing in a unique constraint, so that a row without a value there would be inserted each time. */
function valueOf(table: RecipeTable, given: readonly Given[], column: Column): Given {
  const found = given.find((one) => one.column === column);
  if (found !== undefined && table.stored(found) !== null) return found;
  throw table.misuse(`needs a value for ${column.propertyPath}, which is in unique: without one the row would be inserted each time.`);
}

/** A unique index may be limited to some rows; Postgres takes it as the judge only when it is told the same limit. */
function predicateOf(table: RecipeTable, columns: readonly Column[]): string | undefined {
  const names = new Set(columns.map(({ databaseName }) => databaseName));
  const covers = (others: readonly Column[]): boolean =>
    others.length === names.size && others.every(({ databaseName }) => names.has(databaseName));
  if (table.keys.some(covers)) return undefined;
  return table.metadata.indices.find((index) => index.isUnique && covers(index.columns))?.where;
}

async function insert<Entity>(table: RecipeTable, manager: EntityManager, row: object, judge: Judge): Promise<Entity | undefined> {
  const statement = manager
    .createQueryBuilder()
    .insert()
    .into(table.target)
    .values(row)
    .updateEntity(false)
    .callListeners(false)
    .returning('*');
  doNothingOnConflict(statement, judge);
  try {
    const { raw } = await statement.execute();
    const [stored] = raw as Record<string, unknown>[];
    return stored && (table.entityOf(stored) as Entity);
  } catch (error) {
    throw noSuchConstraint(table, judge, error) ?? error;
  }
}

/** TypeORM 1 does nothing on a conflict where it is given nothing to overwrite; before, it had a method for all that follows ON CONFLICT. */
function doNothingOnConflict(statement: InsertQueryBuilder<object>, { columns, predicate }: Judge): void {
  const older = statement as { onConflict?: (text: string) => unknown };
  if (older.onConflict === undefined) {
    statement.orUpdate([], [...columns], predicate === undefined ? {} : { indexPredicate: predicate });
    return;
  }
  const target = columns.map((name) => statement.escape(name)).join(', ');
  older.onConflict(`(${target})${predicate === undefined ? '' : ` WHERE (${predicate})`} DO NOTHING`);
}

/** Deleted rows too: one that is only marked so stands in the way as any other. */
async function find<Entity>(table: RecipeTable, manager: EntityManager, { values, predicate }: Judge): Promise<Entity | undefined> {
  const query = manager.createQueryBuilder(table.target, 'standing').withDeleted().where(values.sql, values.parameters);
  if (predicate !== undefined) query.andWhere(`(${predicate})`);
  return ((await query.getOne()) ?? undefined) as Entity | undefined;
}

/** Postgres' code for a conflict target that no unique index answers to. */
const NO_UNIQUE_INDEX = '42P10';

/** For one whose constraint is judged later it has a code of many uses, and the place where that is noticed. */
const NOT_READY = '55000';
const CHECKS_ARBITERS = 'ExecCheckIndexConstraints';

function noSuchConstraint(table: RecipeTable, { columns }: Judge, error: unknown): Error | undefined {
  const { code, routine } = postgresError(error);
  const list = columns.join(', ');
  if (code === NO_UNIQUE_INDEX) {
    return table.misuse(
      `finds no unique constraint on ${table.name} over exactly these columns: ${list}. Add one, or declare a partial one with ` +
        '@Index([...], { unique: true, where }), so that its limit is known here.',
      error,
    );
  }
  if (code === NOT_READY && routine === CHECKS_ARBITERS)
    return table.misuse(`needs a unique constraint on ${list} that is not deferrable: Postgres must decide at once.`, error);
  return undefined;
}

function postgresError(error: unknown): { readonly code?: unknown; readonly routine?: unknown } {
  const { driverError } = error as { driverError?: object };
  return driverError ?? {};
}

/** What is looked for was written a moment ago, so that a replica would not do; nor is a second connection needed. */
async function onOneConnection<T>(manager: EntityManager, work: (manager: EntityManager) => Promise<T>): Promise<T> {
  if (manager.queryRunner !== undefined) return work(manager);
  const runner = manager.connection.createQueryRunner('master');
  try {
    return await work(runner.manager);
  } finally {
    await runner.release();
  }
}
