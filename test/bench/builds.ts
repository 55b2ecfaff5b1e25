/**
 * Compiles a library and the applications to plain JavaScript, as the published build is, without
 * source maps and without a loader that stays in the way. Another checkout's library is compiled to
 * the same place and so runs on this one's dependencies: what differs is the library alone.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { DataSource } from 'typeorm';
import type { DataSourceOptions } from 'typeorm';
import type { Build } from './contestants.js';
import { ownFolder } from './own-folder.js';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

export class Builds {
  private constructor(private readonly folder: string) {}

  /** Below the repository, where `node` finds its dependencies. */
  static async begin(): Promise<Builds> {
    return new Builds(await ownFolder(join(REPOSITORY, 'dist')));
  }

  /** @param checkout a folder with `lib` and `migrations` in it; default: this repository */
  async make(checkout = REPOSITORY): Promise<Build> {
    const name = checkout === REPOSITORY ? 'ours' : `ours of ${basename(resolve(checkout))}`;
    if (!existsSync(join(checkout, 'lib', 'index.ts')))
      throw new Error(`There is no lib/index.ts in ${checkout}: name the root of a checkout.`);
    const folder = join(this.folder, name.replaceAll(' ', '-'));
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    await compile(join(checkout, 'lib'), join(folder, 'lib'));
    await compile(join(checkout, 'migrations'), join(folder, 'migrations'));
    await compile(join(REPOSITORY, 'test/bench/apps'), join(folder, 'test/bench/apps'));
    return { name, folder, migrate: (databaseUrl) => migrate(folder, databaseUrl) };
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function compile(from: string, to: string): Promise<void> {
  const compilerOptions = compilerOptionsOf(join(REPOSITORY, 'tsconfig.esm.json'));
  const files = (await readdir(from, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
  for (const { parentPath, name } of files) {
    const source = join(parentPath, name);
    const target = join(to, relative(from, source));
    await mkdir(dirname(target), { recursive: true });
    if (!name.endsWith('.ts')) {
      await cp(source, target);
      continue;
    }
    // The module format goes by the file's name and the package.json above it, which transpileModule does not look for.
    const options = { ...compilerOptions, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
    const { outputText } = ts.transpileModule(await readFile(source, 'utf8'), { compilerOptions: options, fileName: source });
    await writeFile(target.replace(/\.ts$/, '.js'), outputText);
  }
}

function compilerOptionsOf(file: string): ts.CompilerOptions {
  const { options } = ts.getParsedCommandLineOfConfigFile(file, {}, { ...ts.sys, onUnRecoverableConfigFileDiagnostic: fail }) ?? fail();
  return { ...options, declaration: false, sourceMap: false, noEmit: false };
}

function fail(): never {
  throw new Error('tsconfig.esm.json can not be read.');
}

async function migrate(folder: string, url: string): Promise<void> {
  const { idempotencyMigrations } = (await import(pathToFileURL(join(folder, 'migrations/index.js')).href)) as {
    readonly idempotencyMigrations: NonNullable<DataSourceOptions['migrations']> & readonly unknown[];
  };
  const dataSource = new DataSource({ type: 'postgres', url, migrations: [...idempotencyMigrations] as DataSourceOptions['migrations'] });
  await dataSource.initialize();
  try {
    await dataSource.runMigrations({ transaction: 'each' });
  } finally {
    await dataSource.destroy();
  }
}
