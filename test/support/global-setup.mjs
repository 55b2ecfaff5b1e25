/** One Postgres for the whole run, unless DATABASE_URL names another. Every spec file makes a database of its own on it. */
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';

/** @type {import('../../sample-app/support/embedded-postgres.mjs').RunningPostgres | undefined} */
export let postgres;

export default async function start() {
  if (process.env['DATABASE_URL']) return;
  postgres = await startPostgres();
  process.env['DATABASE_URL'] = postgres.url; // jest's workers inherit it
}
