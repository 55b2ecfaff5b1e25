/** The same table runs on two majors; this is what keeps a leg from quietly running on the other one's. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';

it.each(['@nestjs/common', '@nestjs/core', '@nestjs/platform-express', '@nestjs/platform-fastify'])(
  'runs on the major of %s that this leg is for',
  (name) => {
    expect(majorOf(import.meta.resolve(name))).toBe(process.env['NEST_MAJOR']);
  },
);

it('has the TypeORM that belongs to it', () => {
  expect(majorOf(import.meta.resolve('typeorm'))).toBe(process.env['NEST_MAJOR'] === '11' ? '0' : '1');
});

/** The major version of the package that a module's file is in. */
function majorOf(url: string): string | undefined {
  for (let folder = dirname(fileURLToPath(url)); folder !== dirname(folder); folder = dirname(folder)) {
    const version = versionIn(join(folder, 'package.json'));
    if (version !== undefined) return version.split('.')[0];
  }
  return undefined;
}

function versionIn(file: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { version?: string }).version;
  } catch {
    return undefined; // a folder inside the package
  }
}
