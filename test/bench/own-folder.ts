/** Folders of one run, told apart by the process's id. What a run that was killed has left is removed by the next one. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

const PREFIX = 'bench-';

export async function ownFolder(parent: string): Promise<string> {
  const names = await readdir(parent).catch(() => []);
  const left = names.filter((name) => name.startsWith(PREFIX) && !isAlive(Number(name.slice(PREFIX.length))));
  await Promise.all(left.map((name) => rm(join(parent, name), { recursive: true, force: true })));
  return join(parent, `${PREFIX}${process.pid}`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // somebody else's
  }
}
