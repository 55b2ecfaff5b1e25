/**
 * The folder of a cluster that stays: who may have it now. A server outlives its keeper only when
 * the keeper was killed too; its folder must then be neither shared nor given up for lost.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** @typedef {{ pid: number, port: number, ready: boolean }} ServerFacts */

/** A server that was told to stop writes its checkpoint first. */
const WAY_WITHIN_MS = 30_000;

/**
 * A folder that everybody may enter, whatever the umask says; Postgres closes its own one inside.
 * @param {string} folder
 */
export function makeFolder(folder) {
  if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o755);
}

/**
 * Returns once no server runs on the folder's cluster, and writes down who has it from now on.
 * @param {string} home @param {string[]} notes @param {AbortSignal} signal
 */
export async function makeWay(home, notes, signal) {
  const data = join(home, 'postgres');
  const ownerFile = join(home, 'owner.json');
  const deadline = Date.now() + WAY_WITHIN_MS;
  for (let server = serverIn(data), told = false; server !== undefined; server = serverIn(data)) {
    const { app, keeper } = ownerIn(ownerFile);
    if (isAlive(app)) {
      throw new Error(
        `Process ${app} has its Postgres on ${home} right now. Stop that process first, or share its server: ` +
          `DATABASE_URL=postgres://postgres@127.0.0.1:${server.port}/postgres`,
      );
    }
    // Its process is gone. A living keeper is stopping it this very moment; without one nobody else will.
    if (!isAlive(keeper) && !told) {
      process.kill(server.pid, 'SIGINT');
      notes.push(
        `A Postgres was still running on ${home}, left behind by a process that was killed. It was shut down, and started anew on the same data.`,
      );
      told = true;
    }
    if (Date.now() > deadline)
      throw new Error(`The Postgres on ${home} (process ${server.pid}) does not stop. Look into it, or stop it yourself.`);
    await pause(50, undefined, { signal });
  }
  writeFileSync(ownerFile, JSON.stringify({ app: process.ppid, keeper: process.pid }));
}

/**
 * The server that has this cluster, from the file it keeps there. The file alone proves nothing:
 * it stays behind when a machine or container goes down, and its process id may be anybody's now.
 * Postgres itself would then refuse to start, hence the file is removed, but only in that case:
 * it is what keeps a second server off the first one's memory.
 * @param {string} data
 * @returns {ServerFacts | undefined}
 */
export function serverIn(data) {
  const file = join(data, 'postmaster.pid');
  if (!existsSync(file)) return undefined;
  const [pid, , , port, , , , status] = readFileSync(file, 'utf8').split('\n');
  if (!isAlive(Number(pid))) return undefined;
  if (worksOn(Number(pid), data)) return { pid: Number(pid), port: Number(port), ready: status?.trim() === 'ready' };
  rmSync(file, { force: true });
  return undefined;
}

/** @param {string} file @returns {{ app?: number, keeper?: number }} */
function ownerIn(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return {}; // none yet, or torn by a crash
  }
}

/** @param {number | undefined} pid */
function isAlive(pid) {
  if (!pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EPERM') return false; // EPERM: there, and another user's
  }
  return commandOf(pid) !== ''; // a dead process whose parent has not looked after it yet has none
}

/**
 * Whether this process is a Postgres on this cluster, which is what it has made its working directory.
 * @param {number} pid @param {string} data
 */
function worksOn(pid, data) {
  try {
    if (process.platform === 'linux') return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(data);
  } catch {
    return false; // another user's; a server of this cluster would be ours
  }
  return commandOf(pid)?.includes(data) ?? true;
}

/** @param {number} pid @returns {string | undefined} `undefined` where this system does not tell */
function commandOf(pid) {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return execFileSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
}
