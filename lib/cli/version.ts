/** The version of the package this file is in: in its sources and in a build the way up to package.json is not the same. */
import { readFileSync } from 'node:fs';

export function version(): string {
  for (let [folder, below] = [new URL('./', import.meta.url), '']; folder.href !== below;) {
    const found = read(new URL('package.json', folder));
    if (found?.name === 'nestjs-idempotency-pg') return found.version;
    [folder, below] = [new URL('../', folder), folder.href];
  }
  throw new Error('This file is in no package nestjs-idempotency-pg.');
}

function read(file: URL): { readonly name?: string; readonly version: string } | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as { name?: string; version: string };
  } catch {
    return undefined;
  }
}
