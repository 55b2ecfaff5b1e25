/** On what a run was made: without it a figure says nothing. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly packages: Readonly<Record<string, string>>;
  /** `undefined` where there is no git, or no repository. A plus: with changes that are not committed. */
  readonly commit: string | undefined;
}

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const PACKAGES = ['@nestjs/core', 'fastify', 'express', 'pg'] as const;

export function machine(): Machine {
  const processors = os.cpus();
  return {
    processor: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    node: process.version,
    packages: Object.fromEntries(PACKAGES.map((name) => [name, versionOf(name)])),
    commit: commit(),
  };
}

function versionOf(name: string): string {
  const { version } = JSON.parse(readFileSync(`${REPOSITORY}node_modules/${name}/package.json`, 'utf8')) as { readonly version: string };
  return version;
}

function commit(): string | undefined {
  try {
    const git = (...words: string[]): string => execFileSync('git', words, { cwd: REPOSITORY, encoding: 'utf8', stdio: 'pipe' }).trim();
    return git('rev-parse', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return undefined;
  }
}
