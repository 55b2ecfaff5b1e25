/** Installs what a peer needs, in the peer's own folder: nobody who does not run the benchmark has to have it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Does nothing where the lock file's packages are there already.
 *
 * @throws with npm's own words, such as that there is no network
 */
export async function install(folder: string): Promise<void> {
  if (await isInstalled(folder)) return;
  const npm = spawn('npm', ['ci', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    shell: process.platform === 'win32', // npm is a script there
  });
  let said = '';
  npm.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(npm, 'close')) as [number | null];
  if (code !== 0) throw new Error(`npm could not install what is in ${folder}:\n${said}`);
}

/** npm leaves a copy of the lock file beside what it has installed. Only the packages count: the copy lacks the root's entry. */
async function isInstalled(folder: string): Promise<boolean> {
  const [wanted, there] = await Promise.all([
    versionsIn(join(folder, 'package-lock.json')),
    versionsIn(join(folder, 'node_modules/.package-lock.json')).catch(() => undefined),
  ]);
  return there === wanted;
}

async function versionsIn(lockFile: string): Promise<string> {
  const { packages } = JSON.parse(await readFile(lockFile, 'utf8')) as { readonly packages: Record<string, { readonly version?: string }> };
  const installed = Object.entries(packages).filter(([path]) => path !== '');
  return installed.map(([path, { version }]) => `${path}@${version}`).join('\n');
}
