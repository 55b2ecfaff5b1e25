#!/usr/bin/env node
/** `npx nestjs-idempotency-pg`: joins the command to this process, which ends by itself once all is closed. */
import { version } from './version.js';
import type { OnInterruption } from './reap.js';
import { runCli } from './run.js';
import { Terminal } from './terminal.js';

const onInterruption: OnInterruption = (listener) => {
  // Once: whoever presses Ctrl-C again does not want to wait for the bite's end.
  const [interrupted, terminated] = [() => listener('SIGINT'), () => listener('SIGTERM')];
  process.once('SIGINT', interrupted).once('SIGTERM', terminated);
  return () => process.off('SIGINT', interrupted).off('SIGTERM', terminated);
};

const { stdin, stdout, stderr, env } = process;
const terminal = new Terminal({ stdin, stdout, stderr }, env);
process.exitCode = await runCli(process.argv.slice(2), { terminal, env, version: version(), onInterruption });
