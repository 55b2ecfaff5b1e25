/**
 * The shop. Its Postgres is the one in DATABASE_URL, else an embedded one whose data stays in `.data`.
 * With a Postgres of your own, all of this is `NestFactory.create`, `enableShutdownHooks` and `listen`.
 */
import 'reflect-metadata';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { serveDocs } from './docs.js';
import { readPort, readSettings } from './settings.js';
import { startPostgres } from './support/embedded-postgres.mjs';
import { thingsToTry } from './welcome/things-to-try.js';

const DATA_DIR = '.data';

/** As `npm start` has built it. */
const COMMAND_LINE = 'node dist/lib/cli/main.js';

try {
  await start(readPort(process.env));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1); // an embedded Postgres ends with this process
}

async function start(port: number): Promise<void> {
  const databaseUrl = process.env['DATABASE_URL'];
  const postgres = databaseUrl ? undefined : await startPostgres({ dataDir: DATA_DIR });
  const settings = readSettings(process.env, postgres?.url ?? databaseUrl ?? '');
  const app = await NestFactory.create(AppModule.with(settings), {
    logger: ['warn', 'error', 'fatal'],
    abortOnError: false,
    rawBody: true, // a webhook's signature is over its bytes
  });
  serveDocs(app);

  let stopping: Promise<void> | undefined;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // Ctrl-C comes twice: from the terminal, and from npm, which passes it on. A payment under way survives both.
    process.on(signal, () => void (stopping ??= stop(app, postgres)));
  }
  await listen(app, port);

  const { port: actualPort } = app.getHttpServer().address();
  for (const note of postgres?.notes ?? []) console.log(note);
  greet(`http://localhost:${actualPort}`, postgres ? `its data is in ${DATA_DIR}/ and stays` : 'as DATABASE_URL says');
  // A URL of one's own is not repeated, since it may have a password; the embedded one has none, and a port that only we know.
  console.log(
    `# Operate it from a second terminal, see lib/cli/README.md.\n${COMMAND_LINE} status${postgres ? ` --url ${postgres.url}` : ''}\n`,
  );
}

async function listen(app: INestApplication, port: number): Promise<void> {
  try {
    await app.listen(port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new Error(`Port ${port} is taken. Choose another one: PORT=${port + 1} npm start`, { cause: error });
  }
}

/** First the shop, with the requests that are under way, then the database beneath it. */
async function stop(app: INestApplication, postgres: { stop(): Promise<void> } | undefined): Promise<void> {
  await app.close();
  await postgres?.stop();
  process.exit(0);
}

function greet(origin: string, database: string): void {
  console.log(`\nThe shop is open at ${origin} (process ${process.pid}; Postgres: ${database}). Click through it there, or try:\n`);
  for (const { what, command } of thingsToTry(origin)) console.log(`# ${what}\n${command}\n`);
}
