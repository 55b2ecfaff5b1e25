/** One UPDATE of one row under a condition: what compare-and-set and versioned updates have in common. */
import type { EntityManager, UpdateQueryBuilder } from 'typeorm';
import { isFindOperator } from './columns.js';
import type { Given, RecipeTable } from './columns.js';

interface ConditionalUpdate {
  /** Names the row, by values and TypeORM's operators. */
  readonly where: object;
  readonly expected: readonly Given[];
  /** As TypeORM takes it. */
  readonly set: object;
}

/** @throws RecipeMisused where more than one row may fit */
export function conditionalUpdate(
  table: RecipeTable,
  manager: EntityManager,
  { where, expected, set }: ConditionalUpdate,
): UpdateQueryBuilder<object> {
  const row = table.given(where, 'where', { operators: true });
  const operators = row.filter(({ value }) => isFindOperator(value));
  const named = row.filter((given) => !operators.includes(given));
  refuseUnlessOne(table, named);
  const update = manager.createQueryBuilder().update(table.target).set(set).callListeners(false);
  for (const { sql, parameters } of [table.equal(named, 'row'), table.equal(expected, 'expected')]) {
    if (sql !== '') update.andWhere(sql, parameters);
  }
  for (const { column, value } of operators) update.andWhere(column.createValueMap(value));
  const { deleteDateColumn } = table.metadata;
  const isSpokenOf = [...row, ...expected].some(({ column }) => column === deleteDateColumn);
  if (deleteDateColumn !== undefined && !isSpokenOf) update.andWhere(`${table.quoted(deleteDateColumn)} IS NULL`);
  return update;
}

/** What is to be set; a column that TypeORM would leave out without a word is refused. */
export function changesOf(table: RecipeTable, values: object, role: string, absent: { readonly undefined?: true } = {}): Given[] {
  const given = table.given(values, role, absent);
  const fixed = given.find(({ column }) => !column.isUpdate);
  if (fixed === undefined) return given;
  throw table.misuse(`can't change ${fixed.column.propertyPath}, which ${table.name} declares with update: false.`);
}

/** A condition that fits many rows would change them all: one slip in a `where`, and nothing is as it was. */
function refuseUnlessOne(table: RecipeTable, named: readonly Given[]): void {
  const names = new Set(named.filter((given) => table.stored(given) !== null).map(({ column }) => column.databaseName));
  if (table.keys.some((columns) => columns.every(({ databaseName }) => names.has(databaseName)))) return;
  const keys = table.keys.map((columns) => columns.map(({ propertyPath }) => propertyPath).join(' and '));
  throw table.misuse(
    `changes one row, and its where may fit several. Give a value for ${keys.join(', or for ')}, ` +
      `or declare on ${table.name} the unique constraint that makes it one.`,
  );
}
