import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { forbiddenImports } from '../support/floors.js';

const sources = ['lib', 'migrations'].flatMap((top) =>
  readdirSync(top, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({ path: `${top}/${name}`, text: readFileSync(`${top}/${name}`, 'utf8') })),
);

describe('the floors of the house', () => {
  it('has no import that goes up or sideways', () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.flatMap(({ path, text }) => forbiddenImports(path, text))).toEqual([]);
  });

  it('is readable as CommonJS too, which knows no import.meta, but for the command line', () => {
    const library = sources.filter(({ path }) => !path.startsWith('lib/cli/'));
    expect(library.filter(({ text }) => text.includes('import.meta')).map(({ path }) => path)).toEqual([]);
  });
});

describe('forbiddenImports', () => {
  const offences = (path: string, ...targets: string[]) =>
    forbiddenImports(path, targets.map((target) => `import { x } from '${target}';`).join('\n'));

  it('lets a floor know the ones below it, and itself', () => {
    expect(
      offences('lib/nest/options.ts', '../engine/key.js', '../http/replay.js', '../contract/record.js', './tokens.js', 'rxjs/operators'),
    ).toEqual([]);
    expect(offences('lib/engine/engine.ts', '../contract/store.js', 'node:crypto')).toEqual([]);
    expect(offences('lib/index.ts', './nest/options.js', './contract/errors.js')).toEqual([]);
  });

  it('names an import that goes up', () => {
    expect(offences('lib/contract/record.ts', '../engine/key.js')).toEqual(['lib/contract/record.ts must not import ../engine/key.js']);
    expect(offences('lib/engine/engine.ts', '../nest/options.js')).toHaveLength(1);
    expect(offences('lib/engine/engine.ts', '../index.js')).toHaveLength(1);
    expect(offences('lib/nest/options.ts', '../../sample-app/main.js')).toHaveLength(1);
  });

  it('names an import that goes sideways', () => {
    expect(offences('lib/engine/engine.ts', '../store/postgres-store.js', '../http/replay.js')).toHaveLength(2);
    expect(offences('lib/store/rows.ts', '../engine/uuid.js')).toHaveLength(1);
  });

  it('lets only the module and the lifecycle see the store', () => {
    expect(offences('lib/nest/idempotency.module.ts', '../store/postgres-store.js')).toEqual([]);
    expect(offences('lib/nest/module-store.ts', '../store/postgres-store.js')).toEqual([]);
    expect(offences('lib/nest/lifecycle.ts', '../store/postgres-store.js')).toEqual([]);
    expect(offences('lib/nest/idempotency.interceptor.ts', '../store/postgres-store.js')).toHaveLength(1);
  });

  it('lets migrations see the table names and nothing else of the library', () => {
    expect(offences('migrations/index.ts', '../lib/store/table-name.js', './one.js')).toEqual([]);
    expect(offences('migrations/index.ts', '../lib/store/rows.js', '../lib/index.js')).toHaveLength(2);
  });

  it('lets the command line see what it shares with the module, and nothing else of it', () => {
    expect(offences('lib/cli/show.ts', '../engine/key.js', '../nest/duration.js', '../store/postgres-store.js', 'commander')).toEqual([]);
    expect(offences('lib/cli/show.ts', '../engine/engine.js', '../nest/options.js', '@nestjs/common')).toHaveLength(3);
  });

  it('keeps frameworks in one room', () => {
    expect(offences('lib/engine/engine.ts', '@nestjs/common')).toHaveLength(1);
    expect(offences('lib/http/replay.ts', 'express')).toHaveLength(1);
    expect(offences('lib/contract/clock.ts', 'node:timers')).toHaveLength(1);
  });

  it('sees type imports, re-exports and dynamic imports as well', () => {
    const source = `import type { A } from '../engine/a.js';\nexport * from '../engine/b.js';\nconst c = await import('../engine/c.js');`;
    expect(forbiddenImports('lib/contract/record.ts', source)).toHaveLength(3);
  });

  it('asks for a line in the table when a part is new', () => {
    expect(offences('lib/cellar/wine.ts')).toHaveLength(1);
  });
});
