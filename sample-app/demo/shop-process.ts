/** A shop in a process of its own, so that it can be killed in the middle of its work. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface ShopProcess {
  /** Such as `http://localhost:41235`. */
  readonly origin: string;
  /** SIGKILL: no hook runs, nothing is said to the database. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM: requests under way are finished first. Resolves when the process is gone. */
  close(): Promise<void>;
}

const ENTRY = fileURLToPath(new URL('./shop-entry.js', import.meta.url));

export async function startShop(env: NodeJS.ProcessEnv): Promise<ShopProcess> {
  const child = fork(ENTRY, { env: { ...process.env, ...env, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  const exited = once(child, 'exit');
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await exited;
  };
  if (!child.stdout) throw new Error('The shop has no output to read its address from.');
  let origin: string | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    origin = /http:\/\/localhost:\d+/.exec(line)?.[0];
    if (origin !== undefined) break;
  }
  if (origin === undefined) throw new Error('The shop did not start. What is wrong is above.');
  child.stdout.resume(); // nobody reads on, and a full pipe would stop the shop
  return { origin, kill: () => end('SIGKILL'), close: () => end('SIGTERM') };
}
