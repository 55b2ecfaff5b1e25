/** A measured application while it runs, in a process of its own and by plain `node`. */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { AppEnvironment, FromApp, ToApp, Usage } from './app-protocol.js';
import type { Contestant } from './contestants.js';

export interface AppSurroundings {
  readonly databaseUrl: string;
  readonly redisUrl?: string;
  /** Where the compiled `test/bench/apps` are. */
  readonly folder: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly execArgv?: readonly string[];
}

const POOL = 8;
const START_WITHIN_MS = 30_000;
const STOP_WITHIN_MS = 5_000;

export class RunningApp {
  private constructor(
    readonly port: number,
    private readonly child: ChildProcess,
  ) {}

  static async start(contestant: Contestant, { databaseUrl, redisUrl, folder, env, execArgv = [] }: AppSurroundings): Promise<RunningApp> {
    const told: AppEnvironment = {
      BENCH_DATABASE_URL: databaseUrl,
      ...(redisUrl === undefined ? {} : { BENCH_REDIS_URL: redisUrl }),
      BENCH_PLATFORM: contestant.platform,
      BENCH_POOL: String(POOL),
      BENCH_SHOP: pathToFileURL(join(folder, 'test/bench/apps/shop.js')).href,
      NODE_ENV: 'production',
    };
    const child = fork(contestant.entry, {
      env: { ...process.env, NODE_OPTIONS: '', ...told, ...contestant.env, ...env },
      execArgv: [...execArgv],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const { port } = await hear(child, 'ready', AbortSignal.timeout(START_WITHIN_MS), contestant.name);
    return new RunningApp(port, child);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async usage(): Promise<Usage> {
    this.tell({ kind: 'usage' });
    return (await hear(this.child, 'usage', AbortSignal.timeout(START_WITHIN_MS), 'An application')).usage;
  }

  watchMemory(): void {
    this.tell({ kind: 'watch-memory' });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    if (this.child.connected) this.tell({ kind: 'stop' });
    const late = setTimeout(() => this.child.kill('SIGKILL'), STOP_WITHIN_MS);
    await exited;
    clearTimeout(late);
  }

  private tell(message: ToApp): void {
    this.child.send(message);
  }
}

/** The next message of that kind. */
async function hear<K extends FromApp['kind']>(
  child: ChildProcess,
  kind: K,
  signal: AbortSignal,
  name: string,
): Promise<Extract<FromApp, { kind: K }>> {
  const gone = new AbortController();
  const onExit = (code: number | null): void => gone.abort(new Error(`${name} ended (${code}) before it said "${kind}".`));
  child.once('exit', onExit);
  try {
    for (;;) {
      const [message] = (await once(child, 'message', { signal: AbortSignal.any([signal, gone.signal]) })) as [FromApp];
      if (message.kind === kind) return message as Extract<FromApp, { kind: K }>;
    }
  } catch (error) {
    child.kill('SIGKILL');
    throw gone.signal.aborted ? gone.signal.reason : new Error(`${name} did not say "${kind}".`, { cause: error });
  } finally {
    child.off('exit', onExit);
  }
}
