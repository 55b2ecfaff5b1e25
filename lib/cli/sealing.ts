/** Encrypted answers at the command line: opened with the application's keys, and sealed with the newest of them. */
import { Sealing, sealingKey, WITHOUT_KEYS } from '../engine/sealing.js';
import type { PostgresStore } from '../store/postgres-store.js';
import { CliError, EXIT, UsageError } from './exit-codes.js';

/** As the option `encryption.keys` has them, newest first, one a line; bytes in base64 behind `base64:`. */
const KEYS = 'IDEMPOTENCY_ENCRYPTION_KEYS';

const BASE64 = 'base64:';
const KEY_BYTES = 32;
/** Shorter texts are refused by the option as well. */
const LEAST_CHARACTERS = 32;

/** @throws UsageError that says nothing of a key */
export function sealingOf(env: NodeJS.ProcessEnv): Sealing {
  const lines = (env[KEYS] ?? '').split(/\r?\n/).filter((line) => line !== '');
  if (lines.length === 0) return new Sealing(WITHOUT_KEYS);
  return new Sealing({ keys: lines.map((line, at) => sealingKey(written(line, at + 1))), acceptPlain: true, writePlain: false });
}

function written(line: string, number: number): string | Buffer {
  if (!line.startsWith(BASE64)) {
    if (line.length < LEAST_CHARACTERS) throw new UsageError(`Line ${number} of ${KEYS} has fewer than ${LEAST_CHARACTERS} characters.`);
    return line;
  }
  const bytes = Buffer.from(line.slice(BASE64.length), 'base64');
  if (bytes.length !== KEY_BYTES) throw new UsageError(`Line ${number} of ${KEYS} is no base64 of ${KEY_BYTES} bytes.`);
  return bytes;
}

/** How many answers tell whether encryption is on: some may be from before. */
const ANSWERS_LOOKED_AT = 10;

/** An answer that is not sealed would be refused by an application that seals, at every retry and for good. */
export async function assertSealsAlike(store: PostgresStore, sealing: Sealing): Promise<void> {
  if (sealing.hasKeys) return;
  const body = Buffer.alloc(0);
  for (const headers of await store.newestHeaders(ANSWERS_LOOKED_AT)) {
    if (isReadable(() => sealing.openAnswer('', { status: 200, headers, body }))) continue;
    throw new CliError(
      'IDEMPOTENCY_RECORD_UNREADABLE',
      EXIT.refused,
      `Answers are encrypted here, and one that is not would be refused. Put the application's keys into ${KEYS}, newest first, one a line.`,
    );
  }
}

function isReadable(open: () => unknown): boolean {
  try {
    open();
    return true;
  } catch {
    return false;
  }
}
