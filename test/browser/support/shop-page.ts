/** The sample's page in a browser, as somebody who uses it sees it: by names and texts, never by classes. */
import type { Browser, Locator, Page } from 'playwright-core';

export interface ShownAnswer {
  /** Such as `201 Created`, or `No answer`. */
  readonly status: string;
  /** What the page makes of it, such as `Replay`. */
  readonly label: string;
  readonly text: string;
  /** The JSON in it, if there is any. */
  readonly body: Record<string, unknown>;
}

export interface PageOptions {
  readonly scheme?: 'light' | 'dark';
  readonly width?: number;
  readonly height?: number;
  readonly stillness?: boolean;
  /** Time stands still but for the test's doing. */
  readonly ownClock?: boolean;
  /** Dots for each pixel of the page. */
  readonly dots?: number;
}

type Side = 'With protection' | 'Without';

export class ShopPage {
  /** What no visitor should ever cause: errors of scripts, of the policy, of anything but an answer. */
  readonly faults: string[] = [];
  /** Requests that were refused, failed or got no answer, as `POST /payments 422` or `POST /payments lost`. */
  readonly refusals: string[] = [];

  private constructor(readonly page: Page) {
    page.on('pageerror', (error) => this.faults.push(String(error)));
    page.on('console', (message) => {
      // Chromium says this of every answer from 400 on, and of every lost one; those are in the other list.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) this.faults.push(message.text());
    });
    page.on('response', (response) => {
      if (response.status() >= 400) this.refusals.push(`${response.request().method()} ${pathOf(response.url())} ${response.status()}`);
    });
    page.on('requestfailed', (request) => this.refusals.push(`${request.method()} ${pathOf(request.url())} lost`));
  }

  static async open(browser: Browser, url: string, story: string, options: PageOptions = {}): Promise<ShopPage> {
    const { scheme = 'light', width = 1280, height = 900, stillness = false, ownClock = false, dots = 1 } = options;
    const page = await browser.newPage({
      viewport: { width, height },
      deviceScaleFactor: dots,
      colorScheme: scheme,
      reducedMotion: stillness ? 'reduce' : 'no-preference',
    });
    const shop = new ShopPage(page);
    if (ownClock) await page.clock.install();
    await page.goto(`${url}/#${story}`);
    if (ownClock) await page.clock.pauseAt(Date.now() + 60_000);
    await page.getByRole('heading', { level: 2 }).filter({ hasText: /./ }).waitFor();
    return shop;
  }

  async close(): Promise<void> {
    await this.page.close();
  }

  /** Goes to another story by its link. */
  async goTo(title: string): Promise<void> {
    await this.page.getByRole('navigation').getByRole('link', { name: title }).click();
    await this.page.getByRole('heading', { level: 2, name: title }).waitFor();
  }

  /** Presses a button of the request, and waits until all that came of it is shown. */
  async press(name: string): Promise<void> {
    await this.button(name).click();
    await this.settled();
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true });
  }

  async settled(): Promise<void> {
    await this.page.locator('#database[aria-busy=false]').waitFor({ state: 'attached' });
  }

  async choose(name: string): Promise<void> {
    await this.page.getByRole('radio', { name, exact: true }).check();
  }

  async select(title: string): Promise<void> {
    await this.page.getByRole('combobox').selectOption({ label: title });
  }

  async switchProtection(): Promise<void> {
    await this.page.getByRole('switch', { name: 'Protection' }).click();
  }

  /** The newest first. */
  async answers(): Promise<ShownAnswer[]> {
    const items = await this.page
      .getByRole('log', { name: /Answers/ })
      .getByRole('listitem')
      .all();
    return Promise.all(items.map(readAnswer));
  }

  async statuses(): Promise<string[]> {
    return (await this.answers()).map(({ status, label }) => `${status}: ${label}`);
  }

  /** What came of it on one side, in a few words. */
  async tally(side: Side): Promise<string> {
    const tile = this.page
      .getByRole('status')
      .locator('div')
      .filter({ has: this.page.getByText(side, { exact: true }) });
    return (await tile.locator('p').nth(1).textContent()) ?? '';
  }

  /** The rows of a table that is shown, each as its cells' texts. */
  async rows(table: string): Promise<string[][]> {
    const rows = await this.page.getByRole('table', { name: table }).locator('tbody tr').all();
    return Promise.all(rows.map(async (row) => (await row.locator('td').allTextContents()).map((text) => text.trim())));
  }

  /** The records that are shown, each as its text. */
  async records(): Promise<string[]> {
    return this.page
      .getByRole('region', { name: /Idempotency records/ })
      .getByRole('listitem')
      .allInnerTexts();
  }
}

async function readAnswer(item: Locator): Promise<ShownAnswer> {
  const [status, label, text, body] = await Promise.all([
    item.locator('strong').textContent(),
    item.locator('.chip').textContent(),
    item.textContent(),
    item.locator('pre').allTextContents(),
  ]);
  return { status: status ?? '', label: label ?? '', text: text ?? '', body: JSON.parse(body[0] ?? '{}') as Record<string, unknown> };
}

const pathOf = (url: string): string => new URL(url).pathname;
