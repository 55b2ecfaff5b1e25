/** What the command line asks for. */
import { parseArgs } from 'node:util';
import type { Pace } from './race.js';
import type { Sizes } from './workload.js';

export interface Flags {
  readonly help: boolean;
  /** Names of workloads; none: all of them. */
  readonly only: readonly string[];
  /** What a race's title must contain. */
  readonly match: string;
  readonly pace: Pace;
  readonly sizes: Sizes;
  /** Whether peers are to be installed and measured. */
  readonly peers: boolean;
  /** Whether each application writes down where its time went. */
  readonly profile: boolean;
  readonly label: string;
  /** Roots of other checkouts. */
  readonly libraries: readonly string[];
}

export const HELP = `npm run bench -- [options]

  --only <names>     workloads, by commas; default: all of them
  --match <text>     only races with that in their title, such as 'Fastify, 32'
  --rounds <n>       interleaved rounds, default 4
  --seconds <n>      of each contestant in each round, default 2; longer ones for publishing
  --records <n>      size of the large table in "growth", default 1000000
  --quick            two short rounds, to see whether something is far off; not for publishing
  --library <path>   compare this working copy with the library in another checkout, in the same rounds; repeatable
  --profile          a .cpuprofile of each application in test/bench/results, for a browser's developer tools; it costs time
  --peers            install the other libraries first (npm ci below test/bench/peers), and measure them too
  --label <name>     of the files in test/bench/results; default: the time
`;

/** @throws TypeError with a sentence for people */
export function readFlags(words: readonly string[], now = new Date()): Flags {
  const { values } = parseArgs({
    args: [...words],
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      only: { type: 'string' },
      match: { type: 'string', default: '' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      records: { type: 'string' },
      quick: { type: 'boolean', default: false },
      library: { type: 'string', multiple: true, default: [] },
      peers: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      label: { type: 'string' },
    },
  });
  const { quick } = values;
  const label = values.label ?? now.toISOString().slice(0, 19).replaceAll(':', '-');
  if (!/^[\w.-]+$/.test(label)) throw new TypeError('--label becomes the name of a file: letters, digits, dots and dashes.');
  return {
    help: values.help,
    only: values.only?.split(',') ?? [],
    match: values.match,
    pace: {
      rounds: positive('rounds', values.rounds, quick ? 2 : 4),
      seconds: positive('seconds', values.seconds, quick ? 1 : 2),
      // With half as much code was seen to run at half its speed.
      warmUpSeconds: quick ? 2 : 4,
      warmUpRequests: quick ? 4_000 : 8_000,
    },
    sizes: { records: positive('records', values.records, quick ? 200_000 : 1_000_000), quick },
    peers: values.peers,
    profile: values.profile,
    label,
    libraries: values.library,
  };
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0)) throw new TypeError(`--${name} is a number greater than 0.`);
  return value;
}
