import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { EventEmitter } from 'node:events';
import { Client, types, type FieldDef } from 'pg';
import type { ColumnKind } from '../../lib/store/columns.js';
import type { Statement } from '../../lib/store/session.js';
import { catalogue, statements } from '../../lib/store/statements.js';
import { tablesIn } from '../../lib/store/table-name.js';
import { openBench, type Bench } from './store-fixture.js';

let bench: Bench;
let client: Client;
beforeAll(async () => {
  bench = await openBench();
  client = new Client({ connectionString: bench.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await bench.close();
});

const { BOOL, INT2, INT4, INT8, FLOAT8 } = types.builtins;
const NUMBERS: readonly number[] = [INT2, INT4, INT8, FLOAT8];

function kindOf(type: number): ColumnKind {
  if (type === BOOL) return 'boolean';
  return NUMBERS.includes(type) ? 'number' : 'text';
}

/** As many as the statement has values. It finds nothing by them. */
function nulls(text: string): null[] {
  const numbers = [...text.matchAll(/\$(\d+)/g)].map(([, n]) => Number(n));
  return Array.from({ length: Math.max(0, ...numbers) }, () => null);
}

/** Told before the statement is carried out, which without values may fail. */
async function described(text: string): Promise<readonly FieldDef[]> {
  let fields: readonly FieldDef[] = [];
  const { connection } = client as unknown as { readonly connection: EventEmitter };
  connection.once('rowDescription', (description: { readonly fields: readonly FieldDef[] }) => (fields = description.fields));
  await client.query(text, nulls(text)).catch(() => undefined);
  return fields;
}

const reading = ([...Object.values(statements(tablesIn('public'))), ...Object.values(catalogue)] as Statement[]).flatMap(
  ({ name, text, columns }) => (columns === undefined ? [] : [{ name, text, columns }]),
);

it.each(reading)('$name returns the columns that it names, in their order and of their types', async ({ text, columns }) => {
  const fields = await described(text);
  expect(columns.names.map((name, i) => [name, columns.kinds[i]])).toEqual(
    fields.map(({ name, dataTypeID }) => [name, kindOf(dataTypeID)]),
  );
});
