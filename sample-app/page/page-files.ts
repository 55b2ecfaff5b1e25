/**
 * The page's own files: HTML, style and scripts as they were written, without a build step. They are
 * read once, at boot, and only these are ever served: no name from a request reaches the file system.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Injectable } from '@nestjs/common';

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Beside this file, in the sources and in what `nest build` makes of them. */
const FOLDER = fileURLToPath(new URL('./browser/', import.meta.url));

@Injectable()
export class PageFiles {
  private readonly files = readAll(FOLDER);

  /** @param name from the page's folder, such as `stories/payments.js` */
  find(name: string): PageFile | undefined {
    return this.files.get(name);
  }
}

function readAll(folder: string): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const type = TYPES[extname(name)];
    if (type !== undefined) files.set(name.replaceAll('\\', '/'), { type, bytes: readFileSync(join(folder, name)) });
  }
  return files;
}
