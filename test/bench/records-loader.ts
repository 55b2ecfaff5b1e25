/**
 * Fills a contestant's table as months of traffic would, in seconds: one real record is made by a
 * request, and Postgres multiplies it. Each copy has the identity that the library would give its key,
 * so that a request with that key finds it; it knows of the table only what differs from one record
 * to the next.
 */
import { ORDER, answerTo } from './apps/orders.js';
import type { Entrant } from './entrants.js';
import { Connections } from './load/connections.js';
import type { KeptAnswer } from './load/ledger.js';
import { KEY_CHARACTERS } from './load/request-template.js';
import { recorded } from './load/traffic.js';
import type { LoadedAnswers } from './load/traffic.js';
import type { BenchDatabase } from './server.js';

const TABLE = 'idempotency_records';
const PREFIX = 'loaded-';
const DIGITS = KEY_CHARACTERS - PREFIX.length;
/** Stands for the number that makes an answer different from the others. */
const PLACE = '@';
const BODY = JSON.stringify(answerTo(PLACE, ORDER));

/** Rows of one statement: some seconds of work, so that nothing waits long for it. */
const ROWS_A_STATEMENT = 500_000;

/** How long ago the loaded records were made; answers are kept for 24 hours. */
export type Age = 'live' | 'expired';
const SHIFT: Readonly<Record<Age, string>> = {
  live: `random() * interval '20 hours'`,
  expired: `interval '25 hours' + random() * interval '20 hours'`,
};

/** As `identify` in lib/engine/key.ts does it: each of the three with its length in front. */
const framed = (text: string): string => `int4send(octet_length(${text})) || convert_to(${text}, 'UTF8')`;
const idOf = (key: string): string =>
  `encode(substr(sha256(${framed('record.scope')} || ${framed('record.operation')} || ${framed(key)}), 1, 16), 'hex')::uuid`;

const KEY = `'${PREFIX}' || lpad(n::text, ${DIGITS}, '0')`;
const SHIFTED = ['created_at', 'locked_until', 'completed_at', 'expires_at', 'reap_after'];

/** Adds records 0 … count - 1 to those that are there. The indexes are made afterwards, which is faster and leaves them as a new one is. */
export async function loadRecords(entrant: Entrant, count: number, from = 0, age: Age = 'live'): Promise<LoadedAnswers> {
  const { database } = entrant;
  const { key: pattern, answer } = await makePattern(entrant);
  await withoutIndexes(database, () => multiply(database, pattern, from, count, age));
  await database.run(`vacuum (analyze) ${TABLE}`);
  return answersLike(answer);
}

/** The same beside running requests, for small numbers. */
export async function addRecords(entrant: Entrant, count: number, from: number, age: Age): Promise<void> {
  const { key: pattern } = await makePattern(entrant);
  await multiply(entrant.database, pattern, from, count, age);
}

/** A record that the application has made just now. */
async function makePattern({ app, route, database, ledger }: Entrant): Promise<{ readonly key: string; readonly answer: KeptAnswer }> {
  const clients = await Connections.open(app.port, 1);
  const answers = new Map<string, KeptAnswer>();
  const { faults } = await clients.fire(recorded(route, ledger, answers, 1));
  clients.close();
  const [pattern] = [...answers].map(([key, answer]) => ({ key, answer }));
  if (pattern === undefined || faults.length > 0) throw new Error(`No record could be made to load others after: ${faults.join(', ')}`);
  const [found] = await database.run<{ agrees: boolean }>(
    `select id = ${idOf('record.key')} as agrees from ${TABLE} as record where key = $1`,
    [pattern.key],
  );
  if (found?.agrees !== true)
    throw new Error('The identity of a record is not what the loader makes of its key: compare it with lib/engine/key.ts.');
  return pattern;
}

async function multiply(database: BenchDatabase, pattern: string, from: number, count: number, age: Age): Promise<void> {
  const columns = await database.run<{ name: string }>(
    `select column_name as name from information_schema.columns
      where table_schema = 'public' and table_name = '${TABLE}' order by ordinal_position`,
  );
  const values = columns.map(({ name }) => valueOf(name));
  for (let start = from; start < from + count; start += ROWS_A_STATEMENT) {
    const end = Math.min(start + ROWS_A_STATEMENT, from + count) - 1;
    await database.run(
      `insert into ${TABLE} (${columns.map(({ name }) => name).join(', ')})
       select ${values.join(', ')}
         from ${TABLE} as record,
              lateral (select n, ${SHIFT[age]} as shift from generate_series($2::bigint, $3::bigint) as n) as copy
        where record.key = $1`,
      [pattern, start, end],
    );
  }
}

function valueOf(column: string): string {
  if (column === 'id') return idOf(`(${KEY})`);
  if (column === 'key') return KEY;
  if (column === 'owner') return 'gen_random_uuid()';
  if (column === 'body') return `convert_to(replace('${BODY}', '${PLACE}', n::text), 'UTF8')`;
  return SHIFTED.includes(column) ? `record.${column} - shift` : `record.${column}`;
}

async function withoutIndexes(database: BenchDatabase, work: () => Promise<void>): Promise<void> {
  const keys = await database.run<{ name: string; definition: string }>(
    `select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint where conrelid = '${TABLE}'::regclass and contype = 'p'`,
  );
  const indexes = await database.run<{ name: string; definition: string }>(
    `select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
       from pg_index where indrelid = '${TABLE}'::regclass and not indisprimary`,
  );
  for (const { name } of keys) await database.run(`alter table ${TABLE} drop constraint ${name}`);
  for (const { name } of indexes) await database.run(`drop index ${name}`);
  await work();
  for (const { name, definition } of keys) await database.run(`alter table ${TABLE} add constraint ${name} ${definition}`);
  for (const { definition } of indexes) await database.run(definition);
}

function answersLike({ status, contentType }: KeptAnswer): LoadedAnswers {
  return {
    key: (n) => `${PREFIX}${String(n).padStart(DIGITS, '0')}`,
    answer: (key) => ({ status, contentType, body: Buffer.from(BODY.replace(PLACE, String(Number(key.slice(PREFIX.length))))) }),
  };
}
