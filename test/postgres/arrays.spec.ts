import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { byteaArray, floatArray, plainArray, textArray } from '../../lib/store/arrays.js';
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

/** What Postgres takes the array for, element by element. */
async function elementsOf(type: string, array: string | Buffer): Promise<unknown[]> {
  const { rows } = await client.query<{ element: unknown }>(`select unnest($1::${type}[]) as element`, [array]);
  return rows.map(({ element }) => element);
}

const TEXTS = [
  'plain',
  '',
  ' ',
  'NULL',
  'null',
  '"',
  '""',
  '\\',
  '\\"',
  '\\\\x41',
  ',',
  '{}',
  '{a,"b"}',
  "it's",
  '$1',
  'line\nbreak\r\n\tand tab',
  'ü€\u{1f4b6}\u{1d11e}',
  'e\u0301',
  '\u2028\u200b\ufeff',
  '\u0001\u007f',
  'long '.repeat(10_000),
];

it('texts arrive as they are, whatever they consist of', async () => {
  expect(await elementsOf('text', textArray(TEXTS))).toEqual(TEXTS);
  for (const text of TEXTS) expect(await elementsOf('text', textArray([text]))).toEqual([text]);
});

it('a text that is no Unicode arrives as the driver would write it', async () => {
  const halves = ['\ud83d', 'a\udcb6b'];
  expect(await elementsOf('text', textArray(halves))).toEqual(await Promise.all(halves.map(asTheDriverSends)));
});

async function asTheDriverSends(text: string): Promise<string> {
  const { rows } = await client.query<{ text: string }>('select $1::text as text', [text]);
  return rows[0]!.text;
}

it('a text with a zero character is refused, as everywhere in Postgres', async () => {
  await expect(elementsOf('text', textArray(['a\0b']))).rejects.toMatchObject({ code: '22021' });
});

it('bytes, numbers and uuids arrive as they are', async () => {
  const bytes = [Buffer.alloc(0), Buffer.from(Array.from({ length: 256 }, (_, i) => i)), randomBytes(5000)];
  expect(await elementsOf('bytea', byteaArray(bytes))).toEqual(bytes);
  const numbers = [0, -1.5, 0.1, 86_400_000, Number.MAX_SAFE_INTEGER, 5e-324];
  expect(await elementsOf('float8', floatArray(numbers))).toEqual(numbers);
  const uuids = [randomUUID(), randomUUID()];
  expect(await elementsOf('uuid', plainArray(uuids))).toEqual(uuids);
  expect(await elementsOf('smallint', plainArray([200, 404]))).toEqual([200, 404]);
});

it('there may be no element', async () => {
  expect(await elementsOf('text', textArray([]))).toEqual([]);
  expect(await elementsOf('uuid', plainArray([]))).toEqual([]);
});
