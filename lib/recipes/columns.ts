/**
 * What the recipes know of TypeORM's metadata: which columns an object speaks of, and what is asked of
 * them in SQL. What a recipe can't do as it was told is refused here, before a statement is sent.
 */
import type { EntityManager, EntityMetadata, EntityTarget, FindOperator } from 'typeorm';
import { RecipeMisused } from '../contract/errors.js';

export type Column = EntityMetadata['columns'][number];

/** What is never in a column. */
type NotStored = (...args: never[]) => unknown;

/** What is compared and written as a whole. */
type Whole = string | number | bigint | boolean | symbol | null | undefined | Date | Uint8Array | readonly unknown[];

/** The properties of an entity that can be columns. */
export type ColumnName<Entity> = { [Name in keyof Entity]-?: Entity[Name] extends NotStored ? never : Name }[keyof Entity] & string;

type Nullable<Value> = Value | (undefined extends Value ? null : never);

/** Of embedded columns and of a related entity, what is not said does not count. */
type ColumnValue<Value> = Nullable<Value> | (Value extends Whole | NotStored ? never : ColumnValues<Value>);

/** Values of some of an entity's columns, by the names of its properties. */
export type ColumnValues<Entity> = { readonly [Name in ColumnName<Entity>]?: ColumnValue<Entity[Name]> };

/** Which row: values of its columns, or TypeORM's operators on them, such as `MoreThan(3)`. */
export type RowCondition<Entity> = { readonly [Name in ColumnName<Entity>]?: ColumnValue<Entity[Name]> | FindOperator<Entity[Name]> };

/** A column with the value that an object has for it. */
export interface Given {
  readonly column: Column;
  readonly value: unknown;
}

/** What beside plain values an object may say of a column. */
interface Takes {
  /** That nothing is said of it; elsewhere `undefined` is a mistake. */
  readonly undefined?: true;
  /** TypeORM's operators. */
  readonly operators?: true;
}

/** SQL over columns of one table, and its parameters. */
export interface Condition {
  readonly sql: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** An entity's table as one recipe sees it. */
export class RecipeTable {
  readonly metadata: EntityMetadata;

  /** @throws RecipeMisused where it is no table of Postgres */
  constructor(
    private readonly recipe: string,
    private readonly manager: EntityManager,
    readonly target: EntityTarget<object>,
  ) {
    this.metadata = manager.getRepository(target).metadata;
    if (!manager.connection.options.type.includes('postgres'))
      throw this.misuse('is for Postgres. Give it the manager of such a DataSource.');
    if (this.metadata.tableType === 'view') throw this.misuse(`can't write to the view ${this.name}. Give it the entity of a table.`);
  }

  get name(): string {
    return this.metadata.name;
  }

  misuse(fault: string, cause?: unknown): RecipeMisused {
    return new RecipeMisused(`${this.recipe} ${fault}`, cause === undefined ? undefined : { cause });
  }

  quoted({ databaseName }: Column): string {
    return this.manager.connection.driver.escape(databaseName);
  }

  /** The columns that `values` speaks of. `role` is what messages call it. */
  given(values: object, role: string, takes: Takes = {}): Given[] {
    return this.#given(values, values, role, '', takes);
  }

  #given(all: object, part: object, role: string, prefix: string, takes: Takes): Given[] {
    return Object.entries(part).flatMap(([name, value]: [string, unknown]): Given[] => {
      const path = prefix + name;
      if (value === undefined && takes.undefined) return [];
      this.#refuseNoValue(value, `${role}.${path}`, takes);
      const columns = this.metadata.findColumnsWithPropertyPath(path).filter(({ isVirtualProperty }) => !isVirtualProperty);
      if (columns.length === 0) return this.#given(all, this.#embedded(value, role, path), role, `${path}.`, takes);
      return columns.map((column) => {
        const given: unknown = column.getEntityValue(all);
        if (given !== undefined) return { column, value: given };
        throw this.misuse(`was given undefined as ${role}.${path}. Leave it out if it is not meant, or give null for “no value”.`);
      });
    });
  }

  #refuseNoValue(value: unknown, path: string, { operators }: Takes): void {
    if (typeof value === 'function') throw this.misuse(`takes values, and ${path} is a function. Give what is to be compared or stored.`);
    if (!operators && isFindOperator(value)) throw this.misuse(`takes values, and ${path} is an operator, which only a where can have.`);
  }

  #embedded(value: unknown, role: string, path: string): object {
    const isEmbedded = this.metadata.findEmbeddedWithPropertyPath(path) !== undefined;
    if (isEmbedded && typeof value === 'object' && value !== null) return value;
    throw this.misuse(`knows no column of ${this.name} for ${role}.${path}. Name properties that are columns of its own table.`);
  }

  /** `values` without what it says nothing of. TypeORM knows `undefined` on top, and takes it for null in embedded objects. */
  withoutUndefined(values: object, prefix = ''): object {
    return Object.fromEntries(
      Object.entries(values).flatMap(([name, value]: [string, unknown]) => {
        if (this.metadata.findEmbeddedWithPropertyPath(prefix + name) === undefined) return value === undefined ? [] : [[name, value]];
        const part = this.withoutUndefined(value ?? {}, `${prefix}${name}.`);
        return Object.keys(part).length === 0 ? [] : [[name, part]];
      }),
    );
  }

  /** A property's column, or the columns of a relation that its table holds. */
  columnsOf(name: string, role: string): Column[] {
    const columns = this.metadata.findColumnsWithPropertyPath(name);
    if (columns.length > 0) return columns;
    throw this.misuse(`knows no column of ${this.name} named ${name} in ${role}. Name properties that are columns of its own table.`);
  }

  /** As the database takes it. */
  stored({ column, value }: Given): unknown {
    return this.manager.connection.driver.preparePersistentValue(value, column);
  }

  /**
   * That the columns have these values, where null is a value as any. `IS NOT DISTINCT FROM` would say
   * the same, but no index serves it.
   *
   * @param label keeps the parameters of several conditions in one statement apart
   */
  equal(given: readonly Given[], label: string): Condition {
    const parameters: Record<string, unknown> = {};
    const tests = given.map((one, index) => {
      const value = this.stored(one);
      if (value === null) return `${this.quoted(one.column)} IS NULL`;
      parameters[`${label}_${index}`] = value;
      return `${this.quoted(one.column)} = :${label}_${index}`;
    });
    return { sql: tests.join(' AND '), parameters };
  }

  /** The entity of a whole row as the database returned it: what loading it would give, without its relations. */
  entityOf(row: Readonly<Record<string, unknown>>): object {
    const entity = this.manager.create(this.target);
    for (const column of this.metadata.columns) {
      if (column.isVirtual || column.isVirtualProperty || !column.isSelect) continue;
      column.setEntityValue(entity, this.manager.connection.driver.prepareHydratedValue(row[column.databaseName], column));
    }
    return entity;
  }

  /** The column lists each of which can name one row: the primary key, and the unique constraints that hold for all rows. */
  get keys(): Column[][] {
    const { primaryColumns, uniques, indices } = this.metadata;
    const unique = [...uniques, ...indices.filter((index) => index.isUnique && !index.where)];
    return [primaryColumns, ...unique.map(({ columns }) => columns)].filter((columns) => columns.length > 0);
  }
}

/** TypeORM's own objects say what they are in this way, whichever copy of it has made them. */
export function isFindOperator(value: unknown): value is FindOperator<unknown> {
  return typeof value === 'object' && value !== null && '@instanceof' in value && value['@instanceof'] === Symbol.for('FindOperator');
}
