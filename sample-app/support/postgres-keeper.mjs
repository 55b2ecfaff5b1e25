/**
 * The keeper: a process that has one Postgres for as long as the process that forked it is there
 * (see embedded-postgres.mjs). It makes the cluster, starts the server, says where it is, and at
 * the end of the line between the two stops it and removes what was temporary.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { makeFolder, makeWay, serverIn } from './durable-cluster.mjs';
import { canReach, databaseUser, giveTo, temporaryFolder, usableBinaries } from './postgres-binaries.mjs';

/**
 * @typedef {import('./embedded-postgres.mjs').PostgresOptions} PostgresOptions
 * @typedef {import('./embedded-postgres.mjs').KeeperMessage} KeeperMessage
 * @typedef {import('./postgres-binaries.mjs').DatabaseUser} DatabaseUser
 * @typedef {{ bin: string, data: string, user: DatabaseUser, durable: boolean, logFile: string }} Plan
 * @typedef {{ port: number, exited: Promise<unknown>, signal: (name: NodeJS.Signals) => void }} Server
 */

/** A machine under load takes some seconds to start a server; one that took this long never will. */
const START_WITHIN_MS = 60_000;
/** A fast shutdown writes a checkpoint, which may take a while on a slow disk. Then crash recovery is the better way. */
const STOP_WITHIN_MS = 20_000;

const caller = new AbortController();
process.once('disconnect', () => caller.abort());
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(name, () => caller.abort());

if (!process.connected) caller.abort(); // it was gone before anybody listened

await keep(JSON.parse(process.argv[2] ?? '{}')).catch(report);
if (process.connected) process.disconnect();

/** @param {PostgresOptions} options */
async function keep({ dataDir, port }) {
  /** @type {string[]} */
  const notes = [];
  if (dataDir !== undefined) {
    makeFolder(dataDir);
    await makeWay(dataDir, notes, caller.signal);
  }
  const user = databaseUser(dataDir && join(dataDir, 'postgres'));
  const temporary = temporaryFolder(user);
  try {
    const { bin, major } = usableBinaries(user, temporary);
    const home = dataDir ?? temporary;
    const plan = { bin, user, durable: dataDir !== undefined, data: join(home, 'postgres'), logFile: join(home, 'server.log') };
    if (!existsSync(join(plan.data, 'PG_VERSION'))) await makeCluster(plan);
    checkMajor(plan.data, major);
    const server = await startServer(plan, port);
    say({ kind: 'ready', port: server.port, notes });
    await Promise.race([server.exited, ending(caller.signal)]);
    await stopServer(server, plan.durable);
  } finally {
    rmSync(temporary, { recursive: true, force: true, maxRetries: 5 });
  }
}

/**
 * Under another name first: a cluster whose making was cut short looks like one, and is none.
 * @param {Plan} plan
 */
async function makeCluster({ bin, data, user, durable }) {
  const unfinished = `${data}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { mode: 0o700 });
  giveTo(user, unfinished);
  const { name, ...surroundings } = within(unfinished, user);
  const words = ['-D', name, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', ...(durable ? [] : ['--no-sync'])];
  try {
    await promisify(execFile)(join(bin, 'initdb'), words, { ...surroundings, signal: caller.signal });
  } catch (cause) {
    rmSync(unfinished, { recursive: true, force: true });
    const { stderr, message } = /** @type {Error & { stderr?: string }} */ (cause);
    throw new Error(`initdb failed: ${stderr || message}`, { cause });
  }
  renameSync(unfinished, data);
}

/**
 * How a program of Postgres is run in a folder of its user's, and what it may call that folder.
 * Below a folder that only root can enter, the folder's path is of no use to another user; but its
 * working directory is, wherever that is, once root has put the program there.
 * @param {string} folder
 * @param {DatabaseUser} user
 */
function within(folder, user) {
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC' }; // no locale and no zone of this machine's
  return { ...user, cwd: folder, env, name: canReach(user, '-x', folder) ? folder : '/proc/self/cwd' };
}

/** @param {string} data @param {string} major */
function checkMajor(data, major) {
  const made = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
  if (made === major) return;
  throw new Error(
    `${data} was made by Postgres ${made}, and this is Postgres ${major}. Name a Postgres ${made} by PG_PACKAGE or PG_BIN_DIR, or remove the folder with all its data.`,
  );
}

/** @param {Plan} plan @param {number} [wanted] @returns {Promise<Server>} */
async function startServer(plan, wanted) {
  const port = wanted ?? (await freePort());
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '', // their paths are limited to 107 bytes, and nobody asks for them
    max_connections: '200', // several test processes, each with pools of its own
    timezone: 'UTC',
    ...(plan.durable ? {} : { fsync: 'off', full_page_writes: 'off' }),
  };
  const { name, ...surroundings } = within(plan.data, plan.user);
  const words = ['-D', name, '-p', String(port), ...Object.entries(settings).flatMap(([setting, value]) => ['-c', `${setting}=${value}`])];
  const log = openSync(plan.logFile, 'w');
  const server = spawn(join(plan.bin, 'postgres'), words, { ...surroundings, stdio: ['ignore', log, log] });
  closeSync(log);
  const exited = once(server, 'exit').catch((error) => error);

  const deadline = Date.now() + START_WITHIN_MS;
  while (!isReady(plan.data, server.pid)) {
    const over = server.exitCode !== null || server.signalCode !== null || server.pid === undefined;
    if (!over && Date.now() < deadline && !caller.signal.aborted) {
      await Promise.race([exited, pause(20)]);
      continue;
    }
    server.kill('SIGQUIT');
    await exited;
    const said = readFileSync(plan.logFile, 'utf8');
    if (wanted === undefined && /could not bind/.test(said)) return startServer(plan, undefined); // somebody took the port in between
    throw new Error(`Postgres did not start:\n${said.slice(-4000)}`);
  }
  return { port, exited, signal: (name) => void server.kill(name) };
}

/** @param {string} data @param {number | undefined} pid */
function isReady(data, pid) {
  const facts = serverIn(data);
  return facts !== undefined && facts.pid === pid && facts.ready;
}

/** @param {Server} server @param {boolean} durable */
async function stopServer(server, durable) {
  server.signal(durable ? 'SIGINT' : 'SIGQUIT'); // what is thrown away needs no checkpoint
  const late = setTimeout(() => server.signal('SIGQUIT'), STOP_WITHIN_MS);
  await server.exited;
  clearTimeout(late);
}

/** @returns {Promise<number>} */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
  probe.close();
  await once(probe, 'close');
  return port;
}

/** @param {AbortSignal} signal */
async function ending(signal) {
  if (!signal.aborted) await once(signal, 'abort');
}

/** @param {KeeperMessage} message */
function say(message) {
  if (process.connected) process.send?.(message, () => undefined); // nobody is left to hear of a failure here
}

/** @param {unknown} error */
function report(error) {
  say({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
}
