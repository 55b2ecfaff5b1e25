import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, posix, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import ts from 'typescript';
import { EXIT, INTERRUPTED } from '../../lib/cli/exit-codes.js';
import { EXAMPLES } from '../../lib/cli/help.js';
import { resolveOptions } from '../../lib/client/options.js';
import { IDEMPOTENCY_EVENT_TYPES } from '../../lib/contract/events.js';
import { ALWAYS_KEPT_HEADERS } from '../../lib/contract/recorded-response.js';
import { DeduplicateOptionChecks, ModuleOptionChecks, RouteOptionChecks } from '../../lib/nest/option-checks.js';
import { runToExit, startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { sendCurlLine } from '../support/curl-line.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

jest.setTimeout(60_000); // starts an application, and a compiler

const README = 'README.md';
const RECIPES = 'lib/recipes/README.md';
const CLIENT = 'lib/client/README.md';
const COMMAND_LINE = 'lib/cli/README.md';
const TELEMETRY = 'lib/telemetry/README.md';
const SAMPLE_APP = 'sample-app/README.md';

/** What a user reads. Found rather than listed, so that none goes unchecked. */
const PAGES = [README, ...readmesIn('lib'), ...readmesIn('sample-app')];

/** What they lead to, and what they are written with. */
const ALL_TEXTS = [...PAGES, 'CHANGELOG.md', 'CONTRIBUTING.md'];

const texts = new Map(ALL_TEXTS.map((page) => [page, readFileSync(page, 'utf8')]));

function textOf(page: string): string {
  return texts.get(page) ?? '';
}

function readmesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /(^|[\\/])README\.md$/.test(name))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`);
}

function section(title: string, page = README): string {
  const [, text] = textOf(page).split(`\n## ${title}\n`);
  if (text === undefined) throw new Error(`${page} has no section “${title}”.`);
  return text.split('\n## ')[0] ?? '';
}

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, tag, code]) => (tag === language && code ? [code] : []));
}

/** The text without its code, where a `#` is no heading and a bracket no link. */
function prose(text: string): string {
  return text.replace(/^```[\s\S]*?^```$/gm, '');
}

/** The cells of the first column of the last table, without the header. */
function firstColumn(text: string): string[] {
  const [table = ''] = text.match(/(?:^\|.*\n)+/gm)?.slice(-1) ?? [];
  const rows = table.trim().split('\n');
  return rows.slice(2).map((row) => row.split('|')[1]?.trim() ?? '');
}

const quoted = (names: readonly string[]): string[] => names.map((name) => `\`${name}\``).sort();

describe('The programs that stand by themselves', () => {
  let folder: string;
  let database: TestDatabase;
  let app: AppProcess;

  beforeAll(async () => {
    await mkdir('.data', { recursive: true }); // inside the repository, where its packages are found, and outside of git
    folder = await mkdtemp(resolve('.data', 'readme-'));
    database = await createTestDatabase();
    const [program = ''] = blocks(section('Quick start'), 'ts');
    const tellAddress = 'console.log(`http://localhost:${app.getHttpServer().address().port}`);\n';
    const entry = await written('main.ts', program.replace('listen(3000)', 'listen(0)') + tellAddress);
    app = await startAppProcess(entry, { DATABASE_URL: database.url });
  });

  afterAll(async () => {
    app.kill('SIGTERM');
    await app.exited;
    await database.drop();
    await rm(folder, { recursive: true, force: true });
  });

  async function written(name: string, program: string): Promise<string> {
    const path = join(folder, name);
    await writeFile(path, program);
    return path;
  }

  it('the quick start runs as it stands: the line sent twice is carried out once', async () => {
    expect(blocks(section('Quick start'), 'ts')[0]).toContain('app.listen(3000)'); // where the line is sent to
    const [, request = ''] = blocks(section('Quick start'), 'sh');
    const send = (): Promise<Response> => sendCurlLine(request.trim().replace('http://localhost:3000', app.url));
    const [first, second] = [await send(), await send()];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(await second.text()).toBe(await first.text());
    await app.waitForLine(/all such callers count as one/); // as the text below it says
  });

  it('the client is answered by it', async () => {
    const [program = ''] = blocks(textOf(CLIENT), 'ts');
    expect(program).toContain('https://shop.example/');
    const tellAnswer = 'console.log(response.status, await response.text());\n';
    const entry = await written('client.ts', program.replace('https://shop.example', app.url) + tellAnswer);
    expect(await runToExit(entry)).toMatchObject({ code: 0, output: expect.stringMatching(/^201 \{"payment":/m) });
  });
});

/** The first line of an example that is taken from the sample app, whose own tests run it. */
const TAKEN_FROM = /^\/\/ (sample-app\/\S+\.ts)\n/;

describe('The examples', () => {
  const examples = PAGES.flatMap((page) => {
    const codes = [...blocks(textOf(page), 'ts'), ...blocks(textOf(page), 'diff').map(newSide)];
    return codes.map((code) => ({ page, code }));
  });

  it('of README compile, and so do those of the pages that are not taken from the sample app', () => {
    const files = examples
      .filter(({ code }) => !TAKEN_FROM.test(code))
      .map(({ code }, index) => ({
        path: resolve(`readme-example-${index}.ts`),
        text: (code.includes('import ') ? code : memberOfAController(code))
          .replaceAll("'nestjs-idempotency-pg/migrations'", "'./migrations/index.js'")
          .replaceAll(/'nestjs-idempotency-pg\/(\w+)'/g, "'./lib/$1/index.js'")
          .replaceAll("'nestjs-idempotency-pg'", "'./lib/index.js'"),
      }));
    expect(files.length).toBeGreaterThan(8);
    expect(compileErrors(files)).toEqual([]);
  });

  it('that are taken from the sample app are there, line by line', () => {
    const taken = examples.filter(({ code }) => TAKEN_FROM.test(code));
    expect(taken.length).toBeGreaterThan(8);
    expect(taken.flatMap(({ page, code }) => inventedIn(code).map((line) => `${page}: ${line}`))).toEqual([]);
  });

  it('have no other name for TypeScript, under which nobody would check them', () => {
    const languages = PAGES.flatMap((page) => textOf(page).match(/(?<=^```).+$/gm) ?? []);
    expect(new Set(languages)).toEqual(new Set(['ts', 'diff', 'sh', 'json', 'text']));
  });
});

describe('The tables', () => {
  it('list every option there is, and mark those of routes', () => {
    const ofRoutes = Object.keys(new RouteOptionChecks());
    const expected = Object.keys(new ModuleOptionChecks()).map((name) => (ofRoutes.includes(name) ? `\`${name}\` R` : `\`${name}\``));
    expect(firstColumn(section('Options')).sort()).toEqual(expected.sort());
  });

  it('list the options of @Deduplicate() and of the client', () => {
    const ofDeduplicate = Object.keys(new DeduplicateOptionChecks());
    expect(firstColumn(section('Deduplication without a key', RECIPES)).sort()).toEqual(quoted(ofDeduplicate));
    expect(firstColumn(section('Options', CLIENT)).sort()).toEqual(quoted(Object.keys(resolveOptions({}))));
  });

  it('list every entry point, and name its page', async () => {
    const { name, exports } = JSON.parse(await readFile('package.json', 'utf8')) as { name: string; exports: Record<string, unknown> };
    const entries = Object.keys(exports).filter((path) => path !== './package.json');
    const listed = section('Entry points').match(/(?<=^\| `)nestjs-idempotency-pg[^`]*/gm) ?? [];
    expect(listed.sort()).toEqual(entries.map((path) => posix.join(name, path)).sort());
  });

  it('list the commands and the exit codes of the command line', () => {
    const commands = textOf(COMMAND_LINE).match(/(?<=^\| `)[a-z]+/gm) ?? [];
    expect([...new Set(commands)].sort()).toEqual(Object.keys(EXAMPLES).sort());
    const codes = firstColumn(section('In scripts', COMMAND_LINE)).flatMap((cell) => cell.split(', ').map(Number));
    expect(codes).toEqual([...Object.values(EXIT), ...Object.values(INTERRUPTED)]);
  });

  it('list every metric, attribute and span attribute', async () => {
    const sources = await Promise.all(['metrics.ts', 'spans.ts'].map((name) => readFile(`lib/telemetry/${name}`, 'utf8')));
    const names = sources.flatMap((source) => [...source.matchAll(/'((?:idempotency|error)\.[a-z_.]+)'/g)].map(([, name = '']) => name));
    expect(names).toContain('idempotency.claim.duration');
    expect(names.filter((name) => !textOf(TELEMETRY).includes(`\`${name}\``))).toEqual([]);
  });

  it('list what can be set for the sample app', async () => {
    const sources = await Promise.all(['main.ts', 'settings.ts'].map((name) => readFile(`sample-app/${name}`, 'utf8')));
    const variables = sources.flatMap((source) => [...source.matchAll(/env\['(\w+)'\]/g)].map(([, name = '']) => name));
    expect(firstColumn(section('Settings', SAMPLE_APP)).sort()).toEqual(quoted([...new Set(variables)]));
  });

  it('list every code that a refusal can have, where its problem type leads', async () => {
    const codes = (await readFile('lib/contract/errors.ts', 'utf8')).match(/(?<=^ {2}\| ')[A-Z_]+(?=')/gm) ?? [];
    expect(codes).toContain('PRECONDITION_FAILED');
    const text = section("Answers of the module's own");
    const untold = codes.filter((code) => !text.includes(`\`${code}\``) || !text.includes(`<a id="${code.toLowerCase()}"></a>`));
    expect(untold).toEqual([]);
  });

  it('name every event and every header that is kept', () => {
    for (const type of IDEMPOTENCY_EVENT_TYPES) expect(section('Recipes')).toContain(`\`${type}\``);
    for (const header of ALWAYS_KEPT_HEADERS) expect(section('What is kept').toLowerCase()).toContain(`\`${header}\``);
  });
});

describe('The links', () => {
  const links = ALL_TEXTS.flatMap((page) => linksIn(page));

  it('lead to files and headings that exist', () => {
    expect(links.length).toBeGreaterThan(50);
    const broken = links.filter(({ path, anchor }) => !existsSync(path) || (anchor !== undefined && !anchorsIn(path).includes(anchor)));
    expect(broken.map(({ page, target }) => `${page}: ${target}`)).toEqual([]);
  });

  it('lead from pages of the package to pages of the package', () => {
    const outward = links.filter(({ page, path }) => page.startsWith('lib/') && !/^((lib\/.*)?README|CHANGELOG)\.md$/.test(path));
    expect(outward.map(({ page, target }) => `${page}: ${target}`)).toEqual([]);
  });

  it('are not all that names a file: so does the text, and they exist', () => {
    const named = ALL_TEXTS.flatMap((page) =>
      [...prose(textOf(page)).matchAll(/`((?:lib|migrations|sample-app|test)\/[\w./-]*)`/g)].map(([, path = '']) => ({ page, path })),
    );
    expect(named.filter(({ path }) => !existsSync(path) && !existsSync(`${path}.ts`))).toEqual([]);
  });
});

interface Link {
  readonly page: string;
  readonly target: string;
  /** From the top of the repository. */
  readonly path: string;
  readonly anchor: string | undefined;
}

/** Those to places of our own, pictures included. */
function linksIn(page: string): Link[] {
  return [...prose(textOf(page)).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => {
    if (/^https?:/.test(target)) return [];
    const [path = '', anchor] = target.split('#');
    return [{ page, target, path: path === '' ? page : posix.join(dirname(page), path), anchor }];
  });
}

function anchorsIn(path: string): string[] {
  const text = prose(textOf(path));
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => anchorOf(title));
  return [...headings, ...[...text.matchAll(/<a id="([^"]+)"><\/a>/g)].map(([, id = '']) => id)];
}

/** As GitHub and npm make them. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}

/** What a difference comes to. */
function newSide(difference: string): string {
  return difference.replace(/^-.*\n/gm, '').replace(/^[+ ]/gm, '');
}

/** What an example that begins in the middle of a controller leaves out. */
function memberOfAController(code: string): string {
  return `
    import { Body, Controller, Param, Post, UploadedFile, UseInterceptors } from '@nestjs/common';
    import { FileInterceptor } from '@nestjs/platform-express';
    import { CurrentExecution, Idempotent } from 'nestjs-idempotency-pg';
    import type { IdempotentExecution } from 'nestjs-idempotency-pg';
    class CreatePayment { item!: string; amount!: number }
    class Order { id!: string; item!: string }
    class LedgerEntry { orderId!: string; chargeId!: string; amount!: number }
    class Provider { async charge(payment: CreatePayment, options: { idempotencyKey: string }) { return { id: '' }; } }
    @Controller()
    export class Example {
      constructor(private readonly provider: Provider) {}
      ${code}
    }`;
}

/** The first lines of those parts of an excerpt that are not in its file in this order; indentation does not count. */
function inventedIn(excerpt: string): string[] {
  const [head = '', path = ''] = TAKEN_FROM.exec(excerpt) ?? [];
  const unindented = (text: string): string => `\n${text.trim().replace(/^ +/gm, '')}\n`;
  const source = unindented(readFileSync(path, 'utf8'));
  let from = 0;
  return excerpt
    .slice(head.length)
    .split(/^ *\/\/ …\n/m)
    .flatMap((part) => {
      const at = source.indexOf(unindented(part), from);
      if (at !== -1) from = at + unindented(part).length - 1;
      return at === -1 ? [part.split('\n')[0] ?? ''] : [];
    });
}

function compileErrors(files: readonly { readonly path: string; readonly text: string }[]): string[] {
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  const config = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, process.cwd());
  const host = ts.createCompilerHost({ ...options, noEmit: true });
  const { fileExists, readFile: read } = host;
  host.fileExists = (path) => texts.has(path) || fileExists(path);
  host.readFile = (path) => texts.get(path) ?? read(path);
  const program = ts.createProgram([...texts.keys()], { ...options, noEmit: true }, host);
  return [...texts.keys()].flatMap((path) => {
    const source = program.getSourceFile(path);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return found.map(({ messageText, start }) => {
      const line = source?.text.slice(start).split('\n')[0];
      return `${ts.flattenDiagnosticMessageText(messageText, '\n')} (${line})`;
    });
  });
}
