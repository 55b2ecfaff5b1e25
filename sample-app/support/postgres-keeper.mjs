/**
 * The keeper: a process that has one Postgres for as long as the process that forked it is there
 * (see embedded-postgres.mjs). It makes the cluster, starts the server, says where it is, and at
 * the end of the line between the two stops it and removes what was temporary.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { makeFolder, makeWay, serverIn } from './durable-cluster.mjs';
import { canReach, databaseUser, giveTo, temporaryFolder, usableBinaries } from './postgres-binaries.mjs';

/**
 * @typedef {import('./embedded-postgres.mjs').PostgresOptions} PostgresOptions
 * @typedef {import('./embedded-postgres.mjs').KeeperMessage} KeeperMessage
 * @typedef {import('./postgres-binaries.mjs').DatabaseUser} DatabaseUser
 * @typedef {{ bin: string, data: string, user: DatabaseUser, temporary: string, durable: boolean, logFile: string }} Plan
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
    const plan = { bin, user, temporary, durable: dataDir !== undefined, data: join(home, 'postgres'), logFile: join(home, 'server.log') };
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
async function makeCluster(plan) {
  const unfinished = `${plan.data}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { mode: 0o700 });
  giveTo(plan.user, unfinished);
  const words = ['-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', ...(plan.durable ? [] : ['--no-sync'])];
  const initdb = launch('initdb', unfinished, words, plan);
  caller.signal.addEventListener('abort', () => initdb.kill(), { once: true });
  if (caller.signal.aborted) initdb.kill();
  const [code, signal] = await once(initdb, 'exit').catch((error) => [error]);
  if (code !== 0) {
    rmSync(unfinished, { recursive: true, force: true, maxRetries: 5 });
    throw new Error(`initdb failed (${code ?? signal}):\n${readFileSync(plan.logFile, 'utf8').slice(-4000)}`);
  }
  renameSync(unfinished, plan.data);
}

/**
 * Runs a program of Postgres on a folder of its user's. Below a folder that only root can enter the
 * folder's path is of no use to that user; but Linux lets a process reach what it was given open.
 * @param {'initdb' | 'postgres'} program
 * @param {string} data
 * @param {string[]} words
 * @param {Plan} plan
 */
function launch(program, data, words, { bin, user, temporary, logFile }) {
  const log = openSync(logFile, 'w');
  const folder = canReach(user, '-x', data) ? undefined : openSync(data, 'r');
  try {
    return spawn(join(bin, program), ['-D', folder === undefined ? data : '/proc/self/fd/3', ...words], {
      ...user,
      cwd: temporary,
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' }, // no locale and no zone of this machine's
      stdio: ['ignore', log, log, folder ?? 'ignore'],
    });
  } finally {
    closeSync(log);
    if (folder !== undefined) closeSync(folder);
  }
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
  const words = ['-p', String(port), ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const server = launch('postgres', plan.data, words, plan);
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
