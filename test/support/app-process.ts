/**
 * Runs an application of a test in a process of its own, so that it can be killed, stopped and
 * continued like a real one. The entry is TypeScript and needs no build.
 *
 *     const app = await startAppProcess('test/support/apps/shop.ts', { DATABASE_URL: url });
 *     await fetch(`${app.url}/payments`, …);
 *     await app.waitForLine(/handler began/); // the entry prints it: console.log('handler began')
 *     app.kill('SIGSTOP');
 *     app.kill('SIGCONT');
 *     app.kill('SIGKILL');
 *     await app.exited; // { code: null, signal: 'SIGKILL' }
 *
 * The entry listens on any port (`listen(0)`) and prints its address, `http://localhost:<port>` or
 * `http://127.0.0.1:<port>`, anywhere in a line of its standard output. Whatever is still running
 * when the jest worker ends, in whatever way, ends with it.
 */
import { fork } from 'node:child_process';
import { Socket } from 'node:net';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface AppProcess {
  /** Such as `http://127.0.0.1:41235`, without a trailing slash. */
  readonly url: string;
  readonly pid: number;
  /** Sends the signal; SIGTERM if none is named. */
  kill(signal?: NodeJS.Signals): void;
  /** Resolves when the process is gone. Never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** The first line of standard output or error, printed before or after this call, that matches. Rejects if the process ends without one. */
  waitForLine(pattern: RegExp): Promise<string>;
  /** Everything printed so far. */
  output(): string;
}

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const REGISTER = new URL('./swc-register.mjs', import.meta.url).href;
const ADDRESS = /http:\/\/(?:localhost|127\.0\.0\.1):\d+/;

export interface LaunchOptions {
  /** Default: the repository's root. */
  readonly cwd?: string;
}

/**
 * Starts `entry` (a path from the repository's root) with `env` on top of this process's environment
 * and resolves once it has printed its address. Rejects with what it printed if it ends before.
 */
export async function startAppProcess(entry: string, env: NodeJS.ProcessEnv = {}, options: LaunchOptions = {}): Promise<AppProcess> {
  const started = launch(entry, env, options);
  const address = await started.waitForLine(ADDRESS);
  return { ...started, url: ADDRESS.exec(address)?.[0] ?? '' };
}

/** Runs `entry` to its end, for programs that do not listen. */
export async function runToExit(
  entry: string,
  env: NodeJS.ProcessEnv = {},
  options: LaunchOptions = {},
): Promise<ExitStatus & { readonly output: string }> {
  const started = launch(entry, env, options);
  const status = await started.exited;
  return { ...status, output: started.output() };
}

function launch(entry: string, env: NodeJS.ProcessEnv, { cwd = REPOSITORY }: LaunchOptions): Omit<AppProcess, 'url'> {
  const child = fork(resolve(REPOSITORY, entry), {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '', ...env },
    execArgv: ['--import', REGISTER],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  // A test that forgot an application must not keep the run from ending, which is what ends the application.
  child.unref();
  child.channel?.unref();
  const lines: string[] = [];
  const listeners = new Set<(line: string) => void>();
  const hear = (line: string): void => {
    lines.push(line);
    for (const listener of listeners) listener(line);
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (stream instanceof Socket) stream.unref();
    if (stream) createInterface({ input: stream }).on('line', hear);
  }
  const output = (): string => lines.join('\n');
  // 'close' rather than 'exit': all that it printed has been read by then
  const exited = new Promise<ExitStatus>((settle) => child.once('close', (code, signal) => settle({ code, signal })));

  return {
    pid: child.pid ?? -1,
    kill: (signal = 'SIGTERM') => void child.kill(signal),
    exited,
    output,
    waitForLine: (pattern) =>
      new Promise((found, missed) => {
        const earlier = lines.find((line) => pattern.test(line));
        if (earlier !== undefined) return found(earlier);
        const listener = (line: string): void => {
          if (!pattern.test(line)) return;
          listeners.delete(listener);
          found(line);
        };
        listeners.add(listener);
        void exited.then(({ code, signal }) =>
          missed(new Error(`${entry} ended (${signal ?? code}) without printing ${pattern}:\n${output()}`)),
        );
      }),
  };
}
