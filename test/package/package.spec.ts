/** Packs what would be published and uses it from outside, as ES module, as CommonJS and as both at once. */
import { execFile } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { type TestDatabase, createTestDatabase } from '../support/database.js';

const run = promisify(execFile);
/** Packing, and compiling two applications, on two busy cores. */
jest.setTimeout(120_000);

let workshop: string;
let database: TestDatabase;
let packed: string[];

beforeAll(async () => {
  workshop = mkdtempSync(join(tmpdir(), 'package-test-'));
  database = await createTestDatabase();
  packed = await installPackage();
  for (const type of ['module', 'commonjs']) {
    const folder = join(workshop, type);
    cpSync('test/package/consumer', folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type }));
    if (type === 'commonjs') rmSync(join(folder, 'both-copies.ts')); // has a top-level await
  }
});

afterAll(async () => {
  await database.drop();
  rmSync(workshop, { recursive: true, force: true });
});

describe('the package', () => {
  it('has the two builds, the migrations as SQL and the papers, and nothing else', () => {
    const places = packed.map((path) => path.replace(/^(dist\/(?:esm|cjs)\/(?:lib|migrations)|migrations\/sql)\/.*/, '$1'));
    const builds = ['cjs', 'esm'].flatMap((build) => ['lib', 'migrations', 'package.json'].map((part) => `dist/${build}/${part}`));
    const pages = readdirSync('lib', { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('README.md'));
    const papers = ['CHANGELOG.md', 'LICENSE', 'README.md', ...pages.map((path) => join('lib', path))];
    expect(new Set(places)).toEqual(new Set([...papers, 'package.json', 'migrations/sql', ...builds]));
  });

  it('type-checks and runs as an ES module and as CommonJS, with the same names and without a warning', async () => {
    await compile('module');
    await compile('commonjs');
    const reports = [await runConsumer('module', 'shop.js'), await runConsumer('commonjs', 'shop.js')];
    for (const report of reports) {
      expect(report).toMatchObject({ replayed: 'true', names: expect.arrayContaining(['IdempotencyModule', 'Idempotent']) });
    }
    const [fromModule, fromCommonjs] = reports as [ShopReport, ShopReport];
    expect(fromCommonjs.names).toEqual(fromModule.names);
    expect(fromCommonjs.migrationNames).toEqual(fromModule.migrationNames);
    expect(fromCommonjs.clientNames).toEqual(fromModule.clientNames);
    // The second process asks with the same key of the same database, and gets the first one's answer.
    expect(new Set([...fromModule.answers, ...fromCommonjs.answers])).toEqual(new Set(['{"charge":1,"key":"one"}']));
  });

  it('listens for OpenTelemetry where that is installed', async () => {
    expect(await runConsumer('module', 'telemetry.js')).toEqual({ stops: 'function' });
    expect(await runConsumer('commonjs', 'telemetry.js')).toEqual({ stops: 'function' });
  });

  it('documents and watches an application, as an ES module and as CommonJS', async () => {
    for (const type of ['module', 'commonjs']) {
      expect(await runConsumer(type, 'watched.js')).toEqual({ header: 'Idempotency-Key', health: 'up' });
    }
  });

  it('works without OpenTelemetry, whose absence is told by the entry point that needs it', async () => {
    const bare = withoutOpenTelemetry();
    try {
      for (const type of ['module', 'commonjs']) {
        const report = await runConsumer(type, 'no-telemetry.js', bare);
        expect(report).toEqual({ module: 'function', missing: expect.stringContaining('@opentelemetry/api') });
      }
    } finally {
      rmSync(bare, { recursive: true, force: true });
    }
  });

  it('works with both copies in one process, and keeps their applications apart', async () => {
    const { two, a, b, errors } = (await runConsumer('module', 'both-copies.js')) as BothReport;
    expect(two).toBe(true);
    for (const { bodies, replayed } of [a, b]) {
      expect(bodies).toEqual([
        { calls: 1, keys: ['k', 'k', 'none'] },
        { calls: 1, keys: ['k', 'k', 'none'] },
      ]);
      expect(replayed).toBe('true');
    }
    expect(errors).toEqual([true, true]);
  });
});

describe('the command', () => {
  const command = (...args: string[]) =>
    run('npx', ['--no', '--', 'nestjs-idempotency-pg', ...args], {
      cwd: workshop,
      env: { PATH: process.env['PATH'], DATABASE_URL: database.url },
    });

  it('runs through npx, and knows its version', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(await command('--version')).toEqual({ stdout: `${version}\n`, stderr: '' });
  });

  it('prints the migrations, makes the tables and looks at them', async () => {
    const { stdout } = await command('sql', '--schema', 'by_command');
    expect(stdout).toMatch(/create table if not exists "by_command"\.idempotency_records/);
    expect(JSON.parse((await command('migrate', '--schema', 'by_command', '--json')).stdout)).toMatchObject({ pending: [] });
    expect(JSON.parse((await command('status', '--schema', 'by_command', '--json')).stdout)).toMatchObject({ current: true, advice: [] });
  });
});

interface ShopReport {
  readonly names: string[];
  readonly migrationNames: string[];
  readonly clientNames: string[];
  readonly answers: string[];
  readonly replayed: string | null;
}

interface Twice {
  readonly bodies: unknown[];
  readonly replayed: string | null;
}

interface BothReport {
  readonly two: boolean;
  readonly a: Twice;
  readonly b: Twice;
  readonly errors: boolean[];
}

/** Puts the packed files beside links to everything that is installed here; returns their names. */
async function installPackage(): Promise<string[]> {
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', workshop]);
  const [tarball] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
  const installed = resolve('node_modules');
  const modules = join(workshop, 'node_modules');
  mkdirSync(modules);
  for (const name of readdirSync(installed)) if (!name.startsWith('.')) symlinkSync(join(installed, name), join(modules, name));
  const target = join(modules, 'nestjs-idempotency-pg');
  mkdirSync(target);
  await run('tar', ['-xzf', join(workshop, tarball.filename), '-C', target, '--strip-components=1']);
  linkCommands(target, join(modules, '.bin'));
  return tarball.files.map(({ path }) => path);
}

/** As npm does: whatever mode a file was packed with, its commands may be run. */
function linkCommands(target: string, folder: string): void {
  const { bin } = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8')) as { bin: Record<string, string> };
  mkdirSync(folder);
  for (const [name, file] of Object.entries(bin)) {
    chmodSync(join(target, file), 0o755);
    symlinkSync(join(target, file), join(folder, name));
  }
}

/** Another workshop with everything but OpenTelemetry. The package is copied, since a link is looked through. */
function withoutOpenTelemetry(): string {
  const bare = mkdtempSync(join(tmpdir(), 'package-test-bare-'));
  const [from, to] = [join(workshop, 'node_modules'), join(bare, 'node_modules')];
  mkdirSync(to);
  for (const name of readdirSync(from)) {
    if (name !== '@opentelemetry' && name !== 'nestjs-idempotency-pg') symlinkSync(join(from, name), join(to, name));
  }
  cpSync(join(from, 'nestjs-idempotency-pg'), join(to, 'nestjs-idempotency-pg'), { recursive: true });
  for (const type of ['module', 'commonjs']) cpSync(join(workshop, type), join(bare, type), { recursive: true });
  return bare;
}

async function compile(type: string): Promise<void> {
  await run(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', '.'], { cwd: join(workshop, type) }).catch(
    ({ stdout }: { stdout: string }) => {
      throw new Error(stdout);
    },
  );
}

async function runConsumer(type: string, program: string, place = workshop): Promise<unknown> {
  const { stdout, stderr } = await run(process.execPath, [program], {
    cwd: join(place, type),
    env: { PATH: process.env['PATH'], DATABASE_URL: database.url },
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}
