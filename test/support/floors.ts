/** Which part of the house may know which other one. The table is the rule; the rest reads imports. */
import { posix } from 'node:path';
import ts from 'typescript';

interface Floor {
  /** Parts it may import from, beside itself. */
  readonly below: readonly string[];
  /** Packages it may know. Frameworks are known to `nest` alone. */
  readonly packages: readonly string[];
  /** What only some of its files may import, and which. */
  readonly reserved?: { readonly part: string; readonly files: RegExp };
}

const FLOORS: Readonly<Record<string, Floor>> = {
  index: { below: ['nest', 'recipes', 'engine', 'contract'], packages: [] },
  nest: {
    below: ['contract', 'engine', 'http', 'recipes', 'store'],
    packages: [
      'node:',
      '@nestjs/common',
      '@nestjs/core',
      'class-validator',
      'pg',
      'reflect-metadata',
      'rxjs',
      'structured-headers',
      'typeorm',
    ],
    reserved: { part: 'store', files: /\/(idempotency\.)?(module|lifecycle)[^/]*\.ts$/ },
  },
  http: { below: ['contract'], packages: ['node:'] },
  // typeorm's types: some recipes are handed an EntityManager, and know what it can do
  recipes: { below: ['engine', 'contract'], packages: ['node:', 'typeorm'] },
  engine: { below: ['contract'], packages: ['node:', 'structured-headers'] },
  store: { below: ['contract'], packages: ['node:', 'pg', 'typeorm'] },
  // the one word of TypeORM that our own words need: its EntityManager
  contract: { below: [], packages: ['typeorm'] },
  // runs in browsers, on its own
  client: { below: [], packages: [] },
  // A record is named, an answer given, a duration written and an answer sealed as the module does it: those four files know no framework.
  cli: {
    below: ['store', 'contract', 'migrations', 'engine/key', 'engine/sealing', 'nest/manual-answer', 'nest/duration'],
    packages: ['node:', 'commander', 'pg'],
  },
  // What is said of a route is what the module resolved for it: read by the module's tokens, and worded as its answers are.
  swagger: {
    below: [
      'contract',
      'engine/key',
      'http/problem-details',
      'nest/metadata',
      'nest/methods',
      'nest/resolve-options',
      'nest/routes',
      'nest/tokens',
    ],
    packages: ['@nestjs/common', '@nestjs/core', '@nestjs/swagger'],
  },
  terminus: {
    below: ['contract', 'nest/duration', 'nest/lifecycle', 'nest/options', 'nest/tokens'],
    packages: ['@nestjs/common', '@nestjs/core', '@nestjs/terminus'],
  },
  telemetry: { below: ['contract'], packages: ['node:', '@opentelemetry/api'] },
  // The module with a store of its own, and the parts of a running one that a test takes hold of.
  testing: {
    below: [
      'contract',
      'nest/idempotency.module',
      'nest/options',
      'nest/resolve-options',
      'nest/module-store',
      'nest/stand-in',
      'nest/tokens',
      'store/table-name',
    ],
    packages: ['node:', '@nestjs/common', '@nestjs/core', 'pg', 'typeorm'],
  },
  migrations: { below: ['store/table-name'], packages: ['typeorm'] },
};

/** One sentence for every import of this file that goes up or sideways. `path` counts from the top of the repository. */
export function forbiddenImports(path: string, source: string): string[] {
  const part = partOf(path);
  const floor = FLOORS[part];
  if (floor === undefined) return [`${path} is in no part of the house: give ${part} a line in the table of floors`];
  return ts.preProcessFile(source, true, true).importedFiles.flatMap(({ fileName: target }) => {
    const allowed = target.startsWith('.') ? mayReach(path, floor, posix.join(posix.dirname(path), target)) : mayUse(floor, target);
    return allowed ? [] : [`${path} must not import ${target}`];
  });
}

function mayReach(path: string, floor: Floor, target: string): boolean {
  const part = partOf(target);
  if (part === partOf(path)) return true;
  if (floor.reserved?.part === part) return floor.reserved.files.test(path);
  return floor.below.some((allowed) => allowed === part || target === `lib/${allowed}.js`);
}

function mayUse(floor: Floor, target: string): boolean {
  return floor.packages.some((name) => (name.endsWith(':') ? target.startsWith(name) : target === name || target.startsWith(`${name}/`)));
}

/** `lib/nest/x.ts` is in `nest`, `lib/index.ts` in `index`, `migrations/x.ts` in `migrations`. */
function partOf(path: string): string {
  const [top, second] = path.split('/');
  return (top === 'lib' ? second : top)?.replace(/\.(ts|js)$/, '') ?? '';
}
