/** The sample as `npm start` runs it: what the build has made of it. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { startAppProcess } from '../support/app-process.js';
import { createTestDatabase } from '../support/database.js';

const FOLDER = 'sample-app/page/browser';

it('serves its page with every file as it was written', async () => {
  const database = await createTestDatabase();
  const shop = await startAppProcess('dist/sample-app/main.js', { DATABASE_URL: database.url, PORT: '0' });
  try {
    const written = (await readdir(FOLDER, { recursive: true })).filter((name) => /\.(html|css|js|svg)$/.test(name));
    for (const name of written) {
      const served = await fetch(`${shop.url}/page/files/${name.replaceAll('\\', '/')}`);
      expect([name, Buffer.from(await served.arrayBuffer())]).toEqual([name, await readFile(join(FOLDER, name))]);
    }
    expect(written.length).toBeGreaterThan(20);
    expect(await (await fetch(shop.url)).text()).toBe(await readFile(join(FOLDER, 'index.html'), 'utf8'));
  } finally {
    shop.kill('SIGTERM');
    await shop.exited;
    await database.drop();
  }
}, 60_000);
