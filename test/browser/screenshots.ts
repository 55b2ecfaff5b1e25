/** Takes README's pictures of the page anew: `npm run screenshots`. */
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';
import { openSampleShop } from '../support/sample-shop.js';
import { NO_CHROMIUM, chromiumPath, launchChromium } from './support/chromium.js';
import { smallPng } from './support/small-png.js';
import { ShopPage } from './support/shop-page.js';

const FOLDER = new URL('../../sample-app/page/screenshots/', import.meta.url);

/** README loads them all. */
const MOST_BYTES = 150_000;

/** Wide enough for three columns, and small enough to be read in a column of text. */
const SIZE = { width: 1280, height: 1040, dots: 1.5 };

if (chromiumPath === '') throw new Error(NO_CHROMIUM);
await mkdir(FOLDER, { recursive: true });
const awake = setInterval(() => undefined, 60_000); // a shop's process does not keep a test's process alive
const postgres = process.env['DATABASE_URL'] ? undefined : await startPostgres();
if (postgres) process.env['DATABASE_URL'] = postgres.url;
const shop = await openSampleShop();
const browser = await launchChromium();

async function take(name: string, story: string, scheme: 'light' | 'dark', play: (page: ShopPage) => Promise<void>): Promise<void> {
  const page = await ShopPage.open(browser, shop.process.url, story, { scheme, ...SIZE, stillness: true });
  await page.press('Start afresh'); // the one before has bought things, too
  await page.page.getByText('Empty.').first().waitFor();
  await play(page);
  await page.page.mouse.move(0, 0);
  await page.page.evaluate('document.activeElement?.blur(); scrollTo(0, 0)');
  const path = fileURLToPath(new URL(`${name}.png`, FOLDER));
  const picture = smallPng(await page.page.screenshot());
  await page.close();
  if (picture.length > MOST_BYTES)
    throw new Error(`${name} has ${picture.length} bytes, and ${MOST_BYTES} are enough. Take a smaller part of the page.`);
  await writeFile(path, picture);
  console.log(`${path}: ${Math.ceil(picture.length / 1024)} kB`);
}

try {
  for (const scheme of ['light', 'dark'] as const) {
    await take(`payments-${scheme}`, 'payments', scheme, async (page) => {
      await page.press('Lose the answer');
      await page.press('Retry');
      await page.switchProtection();
      await page.press('Lose the answer');
      await page.press('Retry');
    });
  }
  await take('imports-dark', 'imports', 'dark', async (page) => {
    await page.press('Send');
    await page.press('Retry');
  });
} finally {
  await browser.close();
  await shop.close();
  await postgres?.stop();
  clearInterval(awake);
}
