/** A shop and a browser for a spec file, a new page for each test, and no faults in any of them. */
import { afterAll, afterEach, beforeAll, expect, jest } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { openSampleShop } from '../../support/sample-shop.js';
import type { SampleShop } from '../../support/sample-shop.js';
import { launchChromium } from './chromium.js';
import { ShopPage } from './shop-page.js';
import type { PageOptions } from './shop-page.js';

export interface Visitors {
  readonly shop: SampleShop;
  readonly browser: Browser;
  /** Opens the page at a story; it is closed after the test, which fails if a script or the page's policy had something to say. */
  visit(story: string, options?: PageOptions): Promise<ShopPage>;
}

/** To be called within a `describe`. */
export function visitors(env: NodeJS.ProcessEnv = {}): Visitors {
  let shop: SampleShop;
  let browser: Browser;
  let pages: ShopPage[] = [];
  jest.setTimeout(60_000); // a shop and a browser are started

  beforeAll(async () => {
    [shop, browser] = await Promise.all([openSampleShop(env), launchChromium()]);
  });

  afterEach(async () => {
    const left = pages;
    pages = [];
    for (const page of left) await page.close();
    expect(left.flatMap(({ faults }) => faults)).toEqual([]);
  });

  afterAll(async () => {
    await browser?.close();
    await shop?.close();
  });

  return {
    get shop() {
      return shop;
    },
    get browser() {
      return browser;
    },
    async visit(story, options) {
      const page = await ShopPage.open(browser, shop.process.url, story, options);
      pages.push(page);
      return page;
    },
  };
}
