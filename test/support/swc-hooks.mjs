/**
 * The module hooks behind swc-register.mjs: `./x.js` is found as `./x.ts` where only that exists, and
 * is compiled as the tests are (decorators with metadata, no type check). Our own package's name means
 * its sources, so that what we tell users to write runs here as it stands.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { transform } from '@swc/core';

/** @type {Record<string, string | undefined>} */
const OURS = {
  'nestjs-idempotency-pg': new URL('../../lib/index.ts', import.meta.url).href,
  'nestjs-idempotency-pg/client': new URL('../../lib/client/index.ts', import.meta.url).href,
  'nestjs-idempotency-pg/migrations': new URL('../../migrations/index.ts', import.meta.url).href,
};

/** @type {import('node:module').ResolveHook} */
export async function resolve(specifier, context, nextResolve) {
  const ours = OURS[specifier];
  if (ours !== undefined) return nextResolve(ours, context);
  if (/^(\.{1,2}\/|file:).*\.js$/.test(specifier)) {
    const compiled = new URL(specifier, context.parentURL);
    const source = new URL(compiled.href.replace(/\.js$/, '.ts'));
    if (!existsSync(compiled) && existsSync(source)) return nextResolve(source.href, context);
  }
  return nextResolve(specifier, context);
}

/** @type {import('node:module').LoadHook} */
export async function load(url, context, nextLoad) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context);
  const filename = fileURLToPath(url);
  const { code } = await transform(await readFile(filename, 'utf8'), {
    filename,
    swcrc: false,
    jsc: {
      target: 'es2022',
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      keepClassNames: true,
    },
    module: { type: 'es6' },
    sourceMaps: 'inline',
  });
  return { format: 'module', source: code, shortCircuit: true };
}
