/**
 * A real Postgres without any set-up, for the tests and for the sample application. The server
 * belongs to a small process of its own, the keeper, which lives exactly as long as the one that
 * called: whether that one stops it, ends or is killed, the line between them breaks, and the
 * keeper stops the server and removes what was temporary. So there is one way to end, not three.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @typedef {object} PostgresOptions
 * @property {string} [dataDir] Where the data stays, flushed to disk. Without it the server is a throw-away one: no fsync, and nothing is left.
 * @property {number} [port] Default: any free one. A server that is to come back where it was needs it.
 *
 * @typedef {object} RunningPostgres
 * @property {string} url What `DATABASE_URL` would say. The user is a superuser; there is no password, and only this machine can connect.
 * @property {number} port
 * @property {readonly string[]} notes What was not as usual, in sentences for people.
 * @property {() => Promise<void>} stop Returns once the server is gone.
 *
 * @typedef {{ kind: 'ready', port: number, notes: string[] } | { kind: 'failed', message: string }} KeeperMessage
 */

const KEEPER = fileURLToPath(new URL('./postgres-keeper.mjs', import.meta.url));

/**
 * Starts the Postgres that npm has installed (`PG_PACKAGE` names another package of the same make,
 * `PG_BIN_DIR` a directory with `initdb` and `postgres`).
 *
 * @param {PostgresOptions} [options]
 * @returns {Promise<RunningPostgres>}
 */
export async function startPostgres(options = {}) {
  const { NODE_OPTIONS: _ours, ...env } = process.env; // a debugger's port, for one, can't be opened twice
  const order = { ...options, ...(options.dataDir === undefined ? {} : { dataDir: resolve(options.dataDir) }) };
  // Detached, so that Ctrl-C reaches the caller alone: it may want to finish its work on this database first.
  const keeper = fork(KEEPER, [JSON.stringify(order)], { detached: true, stdio: ['ignore', 'ignore', 'ignore', 'ipc'], execArgv: [], env });
  const ended = once(keeper, 'exit');
  const message = await Promise.race([
    once(keeper, 'message').then(([first]) => /** @type {KeeperMessage} */ (first)),
    ended.then(() => undefined),
  ]);
  if (message === undefined)
    throw new Error('The keeper of the embedded Postgres was ended from outside before the server was up. Start again.');
  if (message.kind === 'failed') {
    await ended;
    throw new Error(`${message.message}\nOr set DATABASE_URL to a Postgres of your own; then none is started.`);
  }
  keeper.unref();
  keeper.channel?.unref(); // a finished caller is not kept alive by its database
  return {
    url: `postgres://postgres@127.0.0.1:${message.port}/postgres`,
    port: message.port,
    notes: message.notes,
    async stop() {
      keeper.ref();
      if (keeper.connected) keeper.disconnect();
      await ended;
    },
  };
}
