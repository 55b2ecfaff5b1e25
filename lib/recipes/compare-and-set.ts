/**
 * Changes a row only if it still is what somebody has read: a balance, a counter, a state. Postgres
 * compares and writes in one statement, so that of several at once one wins; what the others do then
 * is theirs to decide.
 */
import type { EntityManager, EntityTarget } from 'typeorm';
import { RecipeTable } from './columns.js';
import type { ColumnValues, RowCondition } from './columns.js';
import { changesOf, conditionalUpdate } from './conditional-update.js';

/**
 * Sets `next` on the row that `where` names, if its columns have the values of `expected` (where null
 * equals null). A `@VersionColumn` and an `@UpdateDateColumn` are kept up; subscribers are not called,
 * since TypeORM would tell them of a change that may not have been made. Under REPEATABLE READ and
 * SERIALIZABLE, to be overtaken is a serialization failure (40001) instead of `false`.
 *
 * @param where names one row by its primary key or by a unique constraint of the entity, and may narrow it further
 * @returns whether it was changed; `false` if the row is not as expected, or not there
 * @throws RecipeMisused for a `where` that more than one row may fit, an unknown column, `undefined`, or nothing expected
 */
export async function compareAndSet<Entity extends object>(
  manager: EntityManager,
  entity: EntityTarget<Entity>,
  where: RowCondition<NoInfer<Entity>>,
  expected: ColumnValues<NoInfer<Entity>>,
  next: ColumnValues<NoInfer<Entity>>,
): Promise<boolean> {
  const table = new RecipeTable('compareAndSet', manager, entity);
  const expectation = table.given(expected, 'expected');
  if (expectation.length === 0)
    throw table.misuse('was told to expect nothing. Give the values that were read, or use an ordinary update.');
  if (changesOf(table, next, 'next').length === 0) throw table.misuse('was given nothing to set. Give at least one column in next.');
  const { affected } = await conditionalUpdate(table, manager, { where, expected: expectation, set: next }).execute();
  return affected === 1;
}
