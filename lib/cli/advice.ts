/** What an operator should do about what was found; nothing where all is well. */
import type { StoreStats } from '../contract/record.js';
import type { Server } from '../store/catalogue.js';
import { CliError } from './exit-codes.js';
import { counted } from './wording.js';

/** README's table of what this package is tested with begins here. */
const OLDEST_POSTGRES = 140_000;

/** Between two rounds of the reaper, a minute, even a busy shop lets fewer expire. So there is no reaper, or it is late. */
const MANY_EXPIRED = 100_000;

export interface Findings {
  readonly server: Server;
  /** What the tables lack. */
  readonly fault: CliError | undefined;
  readonly synchronousCommit: string | undefined;
  /** The counts, or why there are none. */
  readonly records: StoreStats | CliError | undefined;
}

export function adviceOn({ server, fault, synchronousCommit, records }: Findings): readonly string[] {
  const advice = [...ofServer(server), ...(fault === undefined ? [] : [fault.message])];
  if (synchronousCommit === 'off') {
    advice.push(
      'synchronous_commit is off: a crash of Postgres may forget answers that have left. Set it to on for this database or role.',
    );
  }
  if (records instanceof CliError && !server.readOnly) advice.push(`The records could not be counted. ${records.message}`);
  return records === undefined || records instanceof CliError ? advice : [...advice, ...ofRecords(records)];
}

function* ofServer({ version, number, readOnly }: Server): Generator<string> {
  if (number < OLDEST_POSTGRES) yield `Postgres ${version} is older than 14, the oldest that this package is tested with.`;
  if (readOnly) yield 'This server is read-only. Name the primary: a claim is a write, and a replay must see what was just written.';
}

function* ofRecords({ lost, expired }: StoreStats): Generator<string> {
  if (lost > 0) {
    yield (
      `${counted(lost, 'record is', 'records are')} lost: a process was killed at work, or Postgres was away at its end. The next request takes over, ` +
      'or is refused with onLostExecution: \'reject\'. See which by "show --lost", find out what was done, then "resolve" by --answer or --free.'
    );
  }
  if (expired > MANY_EXPIRED) {
    yield `${counted(expired, 'expired record')} wait for a reaper. Is it off (reaper: false)? Then run "reap" from time to time.`;
  }
}
