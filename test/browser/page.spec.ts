import { describe, expect, it } from '@jest/globals';
import { holdLedger } from '../../sample-app/demo/held-ledger.js';
import { describeInBrowser } from './support/describe-in-browser.js';
import { accessibleNodesOf, contrastOf, focusOf, overflowOf } from './support/inspect.js';
import type { ShopPage } from './support/shop-page.js';
import { visitors } from './support/visitors.js';

const STORIES = ['Payments', 'Orders', 'Profile', 'Accounts', 'Reservations', 'Webhooks', 'Mail', 'Contact form', 'Bulk import'];

/** One of each, and each with something in it to be seen. */
const LOOKS = [
  { scheme: 'light', width: 1280 },
  { scheme: 'dark', width: 1280 },
  { scheme: 'light', width: 640 }, // 1280 at a zoom of 200 %
  { scheme: 'dark', width: 360 },
] as const;

describeInBrowser('the page', () => {
  const here = visitors();

  it('opens with no more than its own files, and nothing fails', async () => {
    const page = await here.visit('');
    expect(await page.page.getByRole('heading', { level: 2 }).textContent()).toBe('Payments');
    expect(await page.page.getByRole('navigation').getByRole('link').allTextContents()).toEqual(STORIES);
    await page.page.getByRole('status').getByText('Not tried yet').first().waitFor();
    expect(page.refusals).toEqual([]);
  });

  it('remembers in its address which story is told, and goes back', async () => {
    const page = await here.visit('payments');
    await page.goTo('Webhooks');
    expect(page.page.url()).toBe(`${here.shop.process.url}/#webhooks`);
    await page.page.goBack();
    await page.page.getByRole('heading', { level: 2, name: 'Payments' }).waitFor();
    expect(await page.page.locator('a[aria-current=page]').textContent()).toBe('Payments');
  });

  describe.each(LOOKS)('in $scheme colours at $width px', (look) => {
    it('can be read: all texts have a contrast of 4.5 at least, and none reaches beyond the window', async () => {
      const page = await here.visit('payments', { ...look, height: 800, stillness: true });
      for (const story of STORIES) {
        await page.goTo(story);
        await page.press('Send');
        await page.press('Retry');
        await expectReadable(page);
      }
      await page.switchProtection();
      await page.press('Lose the answer');
      await expectReadable(page);
      await page.goTo('Payments');
      await page.press('Send twice at once');
      await expectReadable(page);
    });
  });

  it('takes the colours of the system, or the ones that are asked for, and remembers those', async () => {
    const page = await here.visit('payments', { scheme: 'dark' });
    const toggle = page.button('Dark colours');
    expect(await toggle.getAttribute('aria-pressed')).toBe('true');
    await toggle.click();
    expect(await toggle.getAttribute('aria-pressed')).toBe('false');
    await page.page.reload();
    await page.page.getByRole('button', { name: 'Dark colours', pressed: false }).waitFor();
    await toggle.click();
    await page.page.emulateMedia({ colorScheme: 'light' });
    await page.page.getByRole('button', { name: 'Dark colours', pressed: false }).waitFor();
  });

  it('keeps still for those who ask for it', async () => {
    const page = await here.visit('payments', { stillness: true });
    await page.press('Send');
    expect(
      await page.page
        .locator('tr', { hasText: 'new' })
        .first()
        .evaluate((row) => row.getAnimations({ subtree: true }).length),
    ).toBe(0);
  });

  it('can be used by the keyboard alone', async () => {
    const page = await here.visit('payments');
    const { keyboard } = page.page;
    expect(await tabTo(page, 'Skip to the story')).toBe(1);
    await keyboard.press('Enter');
    await tabTo(page, 'Send');
    await keyboard.press('Enter');
    await page.settled();
    expect((await focusOf(page.page))?.name).toBe('Send'); // it is still there, though the request was drawn anew
    await tabTo(page, 'Retry');
    await keyboard.press('Space');
    await page.settled();
    expect(await page.statuses()).toEqual(['201 Created: Replay', '201 Created: Carried out']);

    await page.page.reload();
    await tabTo(page, 'Alice');
    await keyboard.press('ArrowRight');
    await tabTo(page, 'protection');
    await keyboard.press('Space');
    await page.page.getByRole('switch', { name: 'Protection', checked: false }).waitFor();
    await tabTo(page, 'Orders');
    await keyboard.press('Enter');
    await page.page.getByRole('heading', { level: 2, name: 'Orders' }).waitFor();
    await tabTo(page, 'Send twice at once');
    await keyboard.press('Enter');
    await page.settled();
    expect(await page.tally('Without')).toBe('2 orders');
    expect((await page.answers())[0]?.body).toMatchObject({ userId: 'bob' });
  });

  it('tells a screen reader what everything is', async () => {
    const page = await here.visit('payments');
    expect(await page.page.locator('html').getAttribute('lang')).toBe('en');
    for (const story of STORIES) {
      await page.goTo(story);
      await page.press('Send');
      const nodes = await accessibleNodesOf(page.page);
      const controls = nodes.filter(({ role }) => CONTROLS.has(role));
      expect(controls.length).toBeGreaterThan(15);
      expect(controls.filter(({ name }) => name === '')).toEqual([]);
      const roles = nodes.map(({ role }) => role);
      for (const landmark of ['banner', 'navigation', 'main', 'contentinfo'])
        expect(roles.filter((role) => role === landmark)).toHaveLength(1);
      for (const region of ['log', 'status', 'switch']) expect(roles).toContain(region);
      const levels = nodes.filter(({ role }) => role === 'heading').map(({ level }) => level ?? 0);
      expect(levels.slice(0, 3)).toEqual([1, 2, 3]);
      expect(levels.filter((level) => level === 1)).toHaveLength(1);
      expect(levels.some((level, place) => place > 0 && level > (levels[place - 1] ?? 0) + 1)).toBe(false);
    }
    const ids = await page.page.locator('[id]').evaluateAll((all) => all.map(({ id }) => String(id)));
    expect(ids).toHaveLength(new Set(ids).size);
  });

  it('shows that a request runs while it runs, and that a second one is refused meanwhile', async () => {
    const page = await here.visit('payments');
    const letGo = await holdLedger(here.shop.database.url); // where a payment comes by after its charge
    try {
      await page.button('Send').click();
      await page.page.getByText('running', { exact: true }).waitFor();
      await page.page.getByText('its lease ends in').waitFor();
      await page.button('Retry').click();
      await page.page.getByText('IDEMPOTENCY_KEY_IN_USE', { exact: true }).waitFor();
    } finally {
      await letGo();
    }
    await page.settled();
    expect(await page.statuses()).toEqual(['201 Created: Carried out', '409 Conflict: Refused']);
    expect(await page.tally('With protection')).toBe('Charged once');
    expect((await page.records())[0]).toMatch(/^completed/);
  });

  it('looks into the database twice a second, and not at all while nobody can see it', async () => {
    const page = await here.visit('payments', { ownClock: true });
    let asked = 0;
    page.page.on('request', (request) => (asked += request.url().includes('/page/state') ? 1 : 0));
    const passASecond = async (): Promise<void> => {
      await page.page.clock.runFor(1_000);
      await page.page.evaluate(`fetch('/page/customers').then((answer) => answer.json())`); // whatever was asked by then has been answered
    };
    while (asked < 3) await passASecond();
    await setHidden(page, true);
    await passASecond(); // what was under way
    const before = asked;
    for (let second = 0; second < 5; second += 1) await passASecond();
    expect(asked).toBe(before);
    await setHidden(page, false);
    while (asked < before + 3) await passASecond();
  });

  it('says when the shop is away, and goes on when it is back', async () => {
    const page = await here.visit('payments');
    await page.page.context().setOffline(true);
    await page.page.getByRole('alert').filter({ hasText: 'The shop can’t be reached' }).waitFor();
    await page.page.context().setOffline(false);
    await page.page.getByRole('alert').waitFor({ state: 'hidden' });
  });

  it('begins afresh: the rows are gone, what was in stock is back, and the keys are free', async () => {
    const page = await here.visit('accounts');
    await page.press('Send');
    await page.goTo('Payments');
    const key = await page.page.getByRole('textbox', { name: 'Idempotency-Key' }).inputValue();
    await page.press('Send');
    await page.press('Start afresh');
    await page.page.getByText('Nothing has been sent yet.').waitFor();
    await page.page.getByRole('textbox', { name: 'Idempotency-Key' }).fill(key);
    await page.press('Send');
    expect(await page.statuses()).toEqual(['201 Created: Carried out']);
    expect(await page.rows('Payments')).toHaveLength(1);
    await page.goTo('Accounts');
    await page.page.getByRole('cell', { name: '1000.00' }).first().waitFor();
  });
});

const CONTROLS: ReadonlySet<string> = new Set([
  'button',
  'link',
  'textbox',
  'combobox',
  'radio',
  'switch',
  'DisclosureTriangle',
  'img',
  'image',
]);

async function expectReadable(page: ShopPage): Promise<void> {
  const { seen, faint } = await contrastOf(page.page);
  expect(faint).toEqual([]);
  expect(seen).toBeGreaterThan(30);
  expect(await overflowOf(page.page)).toEqual({ scrolls: false, beyond: [] });
}

/** Presses Tab until the control of that name has the focus, which must be seen wherever it comes by. How often it was pressed. */
async function tabTo(page: ShopPage, name: string): Promise<number> {
  for (let pressed = 1; pressed <= 60; pressed += 1) {
    await page.page.keyboard.press('Tab');
    const focus = await focusOf(page.page);
    if (focus === undefined) continue; // the browser's own
    if (!focus.isVisible) throw new Error(`The focus is on ${focus.name}, and cannot be seen there.`);
    if (focus.name === name) return pressed;
  }
  throw new Error(`The Tab key does not lead to ${name}.`);
}

/** As a browser does it when another tab comes to the front. */
async function setHidden(page: ShopPage, hidden: boolean): Promise<void> {
  await page.page.evaluate(`
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => ${hidden} });
    document.dispatchEvent(new Event('visibilitychange'));
  `);
}
