/** The commands, their arguments and their help. What they do is in the files that are named as they are. */
import { Command, Option } from 'commander';
import { readAnswer } from './answer-file.js';
import { accessOf, count, duration, schemaOf, textOf, type GlobalOptions } from './arguments.js';
import { asking } from './asking.js';
import type { Access } from './database.js';
import { UsageError } from './exit-codes.js';
import { forget, forgetScope } from './forget.js';
import { EXAMPLES, EXIT_CODES, PLACE_AND_MEANING } from './help.js';
import { migrate } from './migrate.js';
import { reap, type OnInterruption } from './reap.js';
import type { Report } from './report.js';
import { resolve } from './resolve.js';
import { sealingOf } from './sealing.js';
import { show, showLost } from './show.js';
import { sql } from './sql.js';
import { stats } from './stats.js';
import { status } from './status.js';
import { scrubbed } from './target.js';
import type { Terminal } from './terminal.js';

export interface World {
  readonly terminal: Terminal;
  readonly env: NodeJS.ProcessEnv;
  readonly version: string;
  readonly onInterruption: OnInterruption;
}

/** What the definition of a command needs. */
interface Bench extends World {
  readonly command: (name: keyof typeof EXAMPLES, summary: string) => Command;
  readonly access: () => Access;
  readonly schema: () => string | undefined;
  readonly done: (report: Report) => void;
}

export function programFor(world: World, done: (report: Report) => void): Command {
  const program = globalProgram(world);
  const options = (): GlobalOptions => program.opts<GlobalOptions>();
  const bench: Bench = {
    ...world,
    command: (name, summary) =>
      program
        .command(name)
        .description(summary)
        .addHelpText('after', () => `\n${EXAMPLES[name]}`),
    access: () => accessOf(options(), world.env),
    schema: () => schemaOf(options()),
    done,
  };
  addTableCommands(bench); // in this order --help lists them
  addViews(bench);
  addRemedies(bench);
  addSql(bench);
  return program;
}

function globalProgram({ terminal, version }: World): Command {
  return new Command('nestjs-idempotency-pg')
    .description('Looks after the idempotency records that nestjs-idempotency-pg keeps in Postgres.')
    .version(version)
    .option(
      '--url <url>',
      'postgres://user:password@host:5432/database; default: DATABASE_URL, then PGHOST, PGUSER, PGDATABASE and their kin',
    )
    .option('--schema <name>', 'where the tables are; default: public')
    .addOption(
      new Option('--timeout <duration>', 'longest wait for one statement, such as 90s or 10m').argParser(duration).default(60_000, '60s'),
    )
    .option('--json', 'one JSON document on standard output, for programs')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => terminal.print(text.trimEnd()),
      writeErr: (text) => terminal.note(text.trimEnd()),
      outputError: (text, write) => write(scrubbed(text)), // a URL in the wrong place is quoted in it
    })
    .showHelpAfterError('--help tells more.')
    .exitOverride()
    .addHelpText('after', `\n${EXIT_CODES}`);
}

function addTableCommands({ command, access, done, terminal }: Bench): void {
  command('migrate', 'Make or update the tables, whoever has made what is there. Several at once are safe.')
    .option('--dry-run', 'only say what is missing')
    .option('--max-live-keys', 'with the index that the option maxLiveKeys needs, built beside running claims')
    .action(async ({ dryRun = false, maxLiveKeys = false }: { dryRun?: boolean; maxLiveKeys?: boolean }) =>
      done(await migrate({ ...access(), maxLiveKeys }, dryRun, terminal)),
    );

  command('status', 'Tell whether Postgres is there, the tables are current, and what should be looked into.')
    .option('--max-live-keys', 'look for the index that the option maxLiveKeys needs as well')
    .action(async ({ maxLiveKeys = false }: { maxLiveKeys?: boolean }) =>
      done(await status({ ...access(), maxLiveKeys }, terminal.heading)),
    );
}

function addViews({ command, access, done, terminal, env }: Bench): void {
  const { heading } = terminal;

  command('stats', 'Count the records by state, and tell the size of the tables. Reads the whole table.').action(async () =>
    done(await stats(access(), heading)),
  );

  keyed(command('show', 'Show a record without its answer, or the keys that are lost.'), '[scope]', '[key]')
    .option('--body', 'its answer as well: status, headers and body')
    .addOption(
      new Option('--lost', 'the records whose execution was lost, the oldest first, instead of one').conflicts(['body', 'operation']),
    )
    .addOption(new Option('--limit <n>', 'how many of them').argParser(count).default(20))
    .action(async (scope, key, { operation, body = false, lost = false, limit }: ShowOptions) => {
      if (lost && scope !== undefined) throw new UsageError('Give --lost or a scope and a key, not both.');
      if (lost) return done(await showLost(access(), limit, heading));
      if (scope === undefined || key === undefined) throw new UsageError('Give a scope and a key, or --lost.');
      return done(await show(access(), { scope, key, operation }, body ? sealingOf(env) : undefined, heading));
    });
}

function addRemedies({ command, access, done, terminal, env, onInterruption }: Bench): void {
  keyed(command('forget', 'Free a key, whatever it has. The next request with it runs again.'), '<scope>', '[key]')
    .addOption(new Option('--all', 'every record of the scope instead of one key').conflicts('operation'))
    .option('-y, --yes', 'do not ask')
    .action(async (scope, key, { operation, all = false, yes = false }: ForgetOptions) => {
      if (all === (key !== undefined)) throw new UsageError('Give a key, or --all for every key of the scope.');
      const ask = asking(terminal, yes);
      return done(key === undefined ? await forgetScope(access(), scope, ask) : await forget(access(), { scope, key, operation }, ask));
    });

  keyed(command('resolve', 'Settle a lost, open or sealed record by hand: free its key, or say what its answer was.'), '<scope>', '<key>')
    .addOption(new Option('--free', 'the next request runs again').conflicts(['answer', 'ttl']))
    .option('--answer <file>', 'every later request gets the answer in this JSON file; - reads standard input')
    .addOption(new Option('--ttl <duration>', 'how long it is replayed; default: 24h').argParser(duration))
    .option('-y, --yes', 'do not ask')
    .action(async (scope, key, { operation, free = false, answer, ttl = DAY_MS, yes = false }: ResolveOptions) => {
      if (!free && answer === undefined) throw new UsageError('Give --free or --answer <file>.');
      const given = answer === undefined ? undefined : readAnswer(await textOf(answer, terminal));
      const ask = answer === '-' ? undefined : asking(terminal, yes); // there is nobody on standard input then
      const resolution = { answer: given, retentionMs: ttl, sealing: sealingOf(env) };
      return done(await resolve(access(), { scope, key, operation }, resolution, ask));
    });

  command('reap', 'Remove expired records until none is left, as the reaper of an application does.')
    .addOption(new Option('--batch <n>', 'records a bite').argParser(count).default(1000))
    .action(async ({ batch }: { batch: number }) => done(await reap(access(), batch, terminal, onInterruption)));
}

function addSql({ command, schema, done }: Bench): void {
  command('sql', 'Print the statements of the migrations, for other tools. Needs no database.')
    .argument('[migration...]', 'only these, by name or number')
    .option('--down', 'those that drop what the others make')
    .option('--max-live-keys', 'the index that the option maxLiveKeys needs, instead of the tables')
    .action((only: string[], { down = false, maxLiveKeys = false }: { down?: boolean; maxLiveKeys?: boolean }) => {
      if (maxLiveKeys && only.length > 0) throw new UsageError('Give --max-live-keys or names of migrations, not both.');
      done(sql({ schema: schema(), down, only, maxLiveKeys }));
    });
}

const DAY_MS = 86_400_000;

interface ShowOptions {
  readonly operation?: string;
  readonly body?: boolean;
  readonly lost?: boolean;
  readonly limit: number;
}

interface ForgetOptions {
  readonly operation?: string;
  readonly all?: boolean;
  readonly yes?: boolean;
}

interface ResolveOptions {
  readonly operation?: string;
  readonly free?: boolean;
  readonly answer?: string;
  readonly ttl?: number;
  readonly yes?: boolean;
}

function keyed(command: Command, scope: string, key: string): Command {
  return command
    .argument(scope, PLACE_AND_MEANING.scope)
    .argument(key, PLACE_AND_MEANING.key)
    .option('--operation <name>', PLACE_AND_MEANING.operation);
}
