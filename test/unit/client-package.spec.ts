/** What somebody gets who puts the client into a page: how much it is, and what it needs to know of the world. */
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { bundle, minify } from '@swc/core';
import ts from 'typescript';

const ENTRY = resolve('lib/client/index.ts');

/** What a shop's page would write. Put beside the client, and compiled with it. */
const USE = `
import { IdempotentFetchError, idempotentFetch, localStorageKeyStore, memoryKeyStore } from './index.js';
import type { IdempotentFetch, IdempotentFetchErrorCode, IdempotentFetchOptions, KeyStore, RetryEvent } from './index.js';

export const asFetch: typeof fetch = idempotentFetch();
export const fromFetch: IdempotentFetchOptions = { fetch };
export const ofMap: KeyStore = new Map<string, string>();
export const slow: KeyStore = { get: async () => null, set: async () => {}, delete: async () => {} };
export const call: IdempotentFetch = idempotentFetch({ keyStore: localStorageKeyStore('shop/'), onRetry: ({ reason }: RetryEvent) => void reason });
export const answer: Promise<Response> = call(new URL('http://shop.test'), { method: 'POST', body: 'text', intent: 'checkout:42' });
export const told = (error: unknown): IdempotentFetchErrorCode | undefined => (error instanceof IdempotentFetchError ? error.code : undefined);
export const key = (error: IdempotentFetchError): string | undefined => error.key;
void memoryKeyStore();
// @ts-expect-error an intent is a text
void call('http://shop.test', { intent: 42 });
// @ts-expect-error nobody has such an option
idempotentFetch({ retries: 5 });
// @ts-expect-error a number is no key
export const numbers: KeyStore = new Map<string, number>();
`;

function faults(options: ts.CompilerOptions): string[] {
  const use = resolve('lib/client/use.ts');
  const settings: ts.CompilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: false,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    skipLibCheck: true,
    ...options,
  };
  const host = ts.createCompilerHost(settings);
  const { readFile, fileExists } = host;
  host.readFile = (path) => (path === use ? USE : readFile(path));
  host.fileExists = (path) => path === use || fileExists(path);
  const { getSourceFile } = host;
  host.getSourceFile = (path, ...rest) =>
    path === use ? ts.createSourceFile(path, USE, ts.ScriptTarget.ES2022) : getSourceFile(path, ...rest);
  const program = ts.createProgram([use], settings, host);
  return ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText, file }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
}

describe('the client', () => {
  it('has less than 3 kB, minified and gzipped', async () => {
    const bundled = await bundle({
      entry: { client: ENTRY },
      output: { name: 'client', path: '' },
      module: {},
      mode: 'production',
      target: 'browser',
      options: { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' } },
    });
    const { code } = await minify(bundled['client']?.code ?? '', { module: true, compress: true, mangle: true });
    expect(code).toContain('Idempotency-Key');
    expect(code).not.toMatch(/\bimport\b|\brequire\(/);
    expect(gzipSync(code).byteLength).toBeLessThan(3000);
  });

  it('is understood in a browser, which knows nothing of Node', () => {
    expect(faults({ lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'], types: [] })).toEqual([]);
  });

  it('is understood in Node, which knows nothing of browsers', () => {
    expect(faults({ lib: ['lib.es2023.d.ts'], types: ['node'] })).toEqual([]);
  });
});
