/** The statements that `migrate` would run, for those who migrate by other means. It needs no database. */
import { liveKeysIndexText, migrationTexts, type MigrationText } from '../../migrations/texts.js';
import { quoteIdentifier } from '../store/table-name.js';
import { UsageError } from './exit-codes.js';
import type { Report } from './report.js';

export interface SqlRequest {
  /** `undefined`: unqualified names, as in the package's own `.sql` files. */
  readonly schema: string | undefined;
  readonly down: boolean;
  /** Names, or the numbers they begin with; none: all. */
  readonly only: readonly string[];
  /** The index for those who limit live keys, instead of the tables. */
  readonly maxLiveKeys: boolean;
}

export function sql({ schema, down, only, maxLiveKeys }: SqlRequest): Report {
  const asked = maxLiveKeys ? [liveKeysIndexText] : chosenOf(only);
  const chosen = down ? asked.toReversed() : asked;
  const migrations = chosen.map((migration) => ({ name: migration.name, sql: textOf(migration, schema, down) }));
  const texts = migrations.map(({ name, sql: text }) => `-- ${name}\n\n${text.trimEnd()}`);
  return {
    document: { schema: schema ?? null, direction: down ? 'down' : 'up', migrations },
    text: [headOf(schema, down, maxLiveKeys), ...texts].join('\n\n'),
  };
}

function chosenOf(only: readonly string[]): readonly MigrationText[] {
  const unknown = only.filter((wanted) => !migrationTexts.some((migration) => isNamed(migration, wanted)));
  if (unknown.length > 0) {
    const names = migrationTexts.map(({ name }) => name).join(', ');
    throw new UsageError(`There is no migration ${unknown.join(', ')}. There are: ${names}.`);
  }
  return only.length === 0 ? migrationTexts : migrationTexts.filter((migration) => only.some((wanted) => isNamed(migration, wanted)));
}

function isNamed({ name }: MigrationText, wanted: string): boolean {
  return name === wanted || name.startsWith(`${wanted}_`);
}

/** The first one makes the schema as well, as TypeORM's migrations do. Dropping leaves it: other tables may have moved in. */
function textOf(migration: MigrationText, schema: string | undefined, down: boolean): string {
  if (down) return migration.down(schema);
  const makesSchema = schema !== undefined && migration === migrationTexts[0];
  return (makesSchema ? schemaText(schema) : '') + migration.up(schema);
}

/** `create schema if not exists` asks for the right to make schemas even where there is one. */
function schemaText(schema: string): string {
  const body = `
begin
  if not exists (select from pg_namespace where nspname = ${literal(schema)}) then
    create schema ${quoteIdentifier(schema)};
  end if;
end`;
  return `do ${literal(body)};\n\n`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function headOf(schema: string | undefined, down: boolean, maxLiveKeys: boolean): string {
  const place = schema === undefined ? 'Unqualified names: search_path decides where the tables are, --schema qualifies them. ' : '';
  const options = `${schema === undefined ? '' : ' --schema …'}${down ? ' --down' : ''}${maxLiveKeys ? ' --max-live-keys' : ''}`;
  const [how, single] = maxLiveKeys ? ['Run it outside of a transaction', ''] : ['Run it in one transaction', ' --single-transaction'];
  return `-- ${place}${how}:\n--   npx nestjs-idempotency-pg sql${options} | psql "$DATABASE_URL"${single} -v ON_ERROR_STOP=1`;
}
