/** The command line as its users run it: a process of its own, with its own environment. It needs no build. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url));
const REGISTER = new URL('./swc-register.mjs', import.meta.url).href;

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly ended: Promise<Ended>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves once standard error has it; rejects when the command ends without. */
  told(pattern: RegExp): Promise<void>;
}

export interface CommandOptions {
  /** On top of nothing but PATH: a developer's own DATABASE_URL or PGHOST is none of the test's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
}

export function startCommand(args: readonly string[], { env = {}, input = '' }: CommandOptions = {}): Running {
  const child = spawn(process.execPath, ['--import', REGISTER, MAIN, ...args], { env: { PATH: process.env['PATH'], ...env } });
  const said = { stdout: '', stderr: '' };
  const listeners = new Set<() => void>();
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      said[stream] += text;
      for (const listener of listeners) listener();
    });
  }
  child.stdin.on('error', () => undefined); // it may end without having read it
  child.stdin.end(input);
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...said }) as Ended);
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    told: (pattern) =>
      new Promise((found, missed) => {
        const listener = (): void => {
          if (pattern.test(said.stderr)) found();
        };
        listeners.add(listener);
        listener();
        void ended.then(() => missed(new Error(`The command ended without telling ${pattern}:\n${said.stderr}`)));
      }),
  };
}

export function runCommand(args: readonly string[], options?: CommandOptions): Promise<Ended> {
  return startCommand(args, options).ended;
}
