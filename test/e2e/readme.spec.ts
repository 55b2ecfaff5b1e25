import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import ts from 'typescript';
import { IDEMPOTENCY_EVENT_TYPES } from '../../lib/contract/events.js';
import { ALWAYS_KEPT_HEADERS } from '../../lib/contract/recorded-response.js';
import { ModuleOptionChecks, RouteOptionChecks } from '../../lib/nest/option-checks.js';
import { startAppProcess } from '../support/app-process.js';
import { sendCurlLine } from '../support/curl-line.js';
import { createTestDatabase } from '../support/database.js';

jest.setTimeout(60_000); // starts an application, and a compiler

let readme: string;

beforeAll(async () => {
  readme = await readFile('README.md', 'utf8');
});

function section(title: string): string {
  const [, text] = readme.split(`\n## ${title}\n`);
  if (text === undefined) throw new Error(`README has no section “${title}”.`);
  return text.split('\n## ')[0] ?? '';
}

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, tag, code]) => (tag === language && code ? [code] : []));
}

/** The cells of the first column, without the header. */
function firstColumn(table: string): string[] {
  const rows = table.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) => row.split('|')[1]?.trim() ?? '');
}

describe("README's quick start", () => {
  let folder: string;

  beforeAll(async () => {
    await mkdir('.data', { recursive: true }); // inside the repository, where its packages are found, and outside of git
    folder = await mkdtemp(resolve('.data', 'readme-'));
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it('runs as it stands: the line sent twice is carried out once', async () => {
    const database = await createTestDatabase();
    const [program = ''] = blocks(section('Quick start'), 'ts');
    const [, request = ''] = blocks(section('Quick start'), 'sh');
    expect(program).toContain('app.listen(3000)');
    const entry = join(folder, 'main.ts');
    const tellAddress = 'console.log(`http://localhost:${app.getHttpServer().address().port}`);\n';
    await writeFile(entry, program.replace('listen(3000)', 'listen(0)') + tellAddress);

    const app = await startAppProcess(entry, { DATABASE_URL: database.url });
    try {
      const send = (): Promise<Response> => sendCurlLine(request.trim().replace('http://localhost:3000', app.url));
      const [first, second] = [await send(), await send()];
      expect([first.status, second.status]).toEqual([201, 201]);
      expect(second.headers.get('idempotent-replayed')).toBe('true');
      expect(await second.text()).toBe(await first.text());
      await app.waitForLine(/share one space of keys/); // as the text below it says
    } finally {
      app.kill('SIGTERM');
      await app.exited;
      await database.drop();
    }
  });
});

describe("README's examples", () => {
  it('compile', () => {
    const examples = blocks(readme, 'ts').map((code, index) => ({
      path: resolve(`readme-example-${index}.ts`),
      text: (code.includes('import ') ? code : memberOfAController(code))
        .replaceAll("'nestjs-idempotency-pg/migrations'", "'./migrations/index.js'")
        .replaceAll("'nestjs-idempotency-pg'", "'./lib/index.js'"),
    }));
    expect(examples.length).toBeGreaterThan(8);
    expect(compileErrors(examples)).toEqual([]);
  });
});

describe("README's tables", () => {
  it('list every option there is, and mark those of routes', () => {
    const ofRoutes = Object.keys(new RouteOptionChecks());
    const expected = Object.keys(new ModuleOptionChecks()).map((name) => (ofRoutes.includes(name) ? `\`${name}\` R` : `\`${name}\``));
    expect(firstColumn(section('Options')).sort()).toEqual(expected.sort());
  });

  it('list every code that a refusal can have', async () => {
    const codes = (await readFile('lib/contract/errors.ts', 'utf8')).match(/^ {2}\| 'IDEMPOTENCY_\w+'/gm) ?? [];
    expect(codes.length).toBeGreaterThan(8);
    const text = section("Answers of the module's own");
    for (const code of codes) expect(text).toContain(`\`${/IDEMPOTENCY_\w+/.exec(code)?.[0]}\``);
  });

  it('name every event and every header that is kept', () => {
    for (const type of IDEMPOTENCY_EVENT_TYPES) expect(section('Recipes')).toContain(`\`${type}\``);
    for (const header of ALWAYS_KEPT_HEADERS) expect(section('What is kept').toLowerCase()).toContain(`\`${header}\``);
  });
});

describe("README's links", () => {
  it('lead to headings that exist', () => {
    const headings = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => anchorOf(title));
    const targets = [...readme.matchAll(/\]\(#([^)]+)\)/g)].map(([, target]) => target);
    expect(targets.filter((target) => !headings.includes(target ?? ''))).toEqual([]);
  });
});

/** As GitHub and npm make them. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
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
