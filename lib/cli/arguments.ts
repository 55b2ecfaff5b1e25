/** From what was typed to what it means, or to what is wrong with it. */
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError } from 'commander';
import { parseDuration } from '../nest/duration.js';
import { quoteIdentifier } from '../store/table-name.js';
import type { Access } from './database.js';
import { UsageError } from './exit-codes.js';
import { targetOf } from './target.js';
import type { Terminal } from './terminal.js';

export interface GlobalOptions {
  readonly url?: string;
  readonly schema?: string;
  readonly timeout: number;
  readonly json?: true;
}

export function accessOf(options: GlobalOptions, env: NodeJS.ProcessEnv): Access {
  if (options.url === '') throw new UsageError('--url is empty. Is the variable set that it comes from?');
  const target = targetOf(options.url ?? env['DATABASE_URL'], env);
  return { target, schema: schemaOf(options) ?? 'public', timeoutMs: options.timeout, maxLiveKeys: false };
}

export function schemaOf({ schema }: GlobalOptions): string | undefined {
  if (schema === undefined) return undefined;
  try {
    quoteIdentifier(schema);
    return schema;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

export async function textOf(file: string, terminal: Terminal): Promise<string> {
  if (file === '-') return (await terminal.input()).toString();
  try {
    return await readFile(file, 'utf8');
  } catch {
    throw new UsageError(`The file ${file} can't be read.`);
  }
}

export function duration(written: string): number {
  const ms = parseDuration(written);
  if (ms === undefined || ms === 0) throw new InvalidArgumentError('Write a number with its unit, such as 90s, 10m or 7d.');
  return ms;
}

/** More than this in one statement would hold others up. */
const MOST_ROWS = 100_000;

export function count(written: string): number {
  const number = /^\d{1,6}$/.test(written) ? Number(written) : 0;
  if (number < 1 || number > MOST_ROWS) throw new InvalidArgumentError(`Write a whole number from 1 to ${MOST_ROWS}.`);
  return number;
}
