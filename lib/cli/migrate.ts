/** Makes the tables, or says what is missing of them. */
import { inspected, migrationsOf, withDatabase, type Access } from './database.js';
import { migrate as run } from './migrator.js';
import { CliError } from './exit-codes.js';
import type { Report } from './report.js';
import type { Terminal } from './terminal.js';

export async function migrate(access: Access, dryRun: boolean, terminal: Terminal): Promise<Report> {
  if (dryRun) return withDatabase(access, async (database) => planned(access.schema, (await migrationsOf(database)).pending));
  const applied = await run(access, () => terminal.note('Another migration is under way; waiting for it.'));
  return withDatabase(access, async (database) => {
    const findings = await inspected(database);
    if (findings instanceof CliError) throw findings; // the tables of these names are somebody else's
    const done =
      applied.length === 0
        ? `Schema "${access.schema}" has everything already.`
        : `Applied in schema "${access.schema}": ${applied.join(', ')}.`;
    return { document: { schema: access.schema, dryRun: false, applied, pending: [] }, text: done };
  });
}

function planned(schema: string, pending: readonly string[]): Report {
  const text =
    pending.length === 0
      ? `Schema "${schema}" has everything already.`
      : `Would be applied in schema "${schema}": ${pending.join(', ')}. "sql" prints the statements.`;
  return { document: { schema, dryRun: true, applied: [], pending }, text };
}
