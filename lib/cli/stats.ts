/** How many records there are, by state, and how much room they take. */
import type { StoreStats } from '../contract/record.js';
import type { Sizes } from '../store/catalogue.js';
import { withTables, type Access } from './database.js';
import type { Report } from './report.js';
import { facts, table } from './table.js';
import { grouped, size } from './wording.js';

export function stats(access: Access, heading: (text: string) => string): Promise<Report> {
  return withTables(access, async ({ store, catalogue }) => {
    const [counts, sizes] = [await store.stats(), await catalogue.sizes()];
    return { document: documentOf(counts, sizes), text: textOf(counts, sizes, heading) };
  });
}

function documentOf(counts: StoreStats, { records, steps }: Sizes): unknown {
  return {
    ...counts,
    tables: {
      records: { tableBytes: records.table, indexBytes: records.indexes },
      steps: { tableBytes: steps.table, indexBytes: steps.indexes },
    },
  };
}

function textOf(counts: StoreStats, sizes: Sizes, heading: (text: string) => string): string {
  const states = (['running', 'lost', 'open', 'completed', 'sealed', 'expired'] as const).map((state) => [state, grouped(counts[state])]);
  const tables = (['records', 'steps'] as const).map((name) => [`idempotency_${name}`, size(sizes[name].table), size(sizes[name].indexes)]);
  const parts = [
    table([{ title: 'State' }, { title: 'Records', align: 'right' }], states, heading),
    table([{ title: 'Table' }, { title: 'Size', align: 'right' }, { title: 'Indexes', align: 'right' }], tables, heading),
  ];
  if (counts.oldestLost !== undefined) parts.push(facts([['Oldest lost', counts.oldestLost.toISOString()]], heading));
  return parts.join('\n\n');
}
