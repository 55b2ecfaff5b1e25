import { expect, it } from '@jest/globals';
import { describeInBrowser } from './support/describe-in-browser.js';
import { visitors } from './support/visitors.js';

describeInBrowser("the page's payments", () => {
  const here = visitors();
  const count = (table: string, where = 'true'): Promise<number> => here.shop.count(`select from ${table} where ${where}`);
  const charges = (): Promise<number> => count('provider_charges', `outcome = 'charged'`);

  it('are charged once when they are sent twice at once: the other one gets a replay or 409', async () => {
    const before = await charges();
    const page = await here.visit('payments');
    await page.press('Send twice at once');
    const statuses = await page.statuses();
    expect(statuses).toHaveLength(2);
    expect(statuses).toContain('201 Created: Carried out');
    expect(statuses.some((status) => ['201 Created: Replay', '409 Conflict: Refused'].includes(status))).toBe(true);
    expect(await page.tally('With protection')).toBe('Charged once');
    expect(await charges()).toBe(before + 1);
  });

  it('are charged once when the answer is lost and the request sent again: the retry gets that very payment', async () => {
    const before = await charges();
    const page = await here.visit('payments');
    await page.press('Lose the answer');
    expect(await page.statuses()).toEqual(['No answer: The answer was lost']);
    expect(await charges()).toBe(before + 1); // the work was done
    await page.press('Retry');
    const [retried] = await page.answers();
    expect(retried).toMatchObject({ status: '201 Created', label: 'Replay', body: { description: 'A lamp', amount: 4200 } });
    expect(retried?.text).toContain('Idempotent-Replayed');
    expect(await count('payments', `id = '${String(retried?.body['id'])}'`)).toBe(1);
    expect(await page.tally('With protection')).toBe('Charged once');
    expect(await charges()).toBe(before + 1);
    expect(page.refusals).toEqual(['POST /payments lost']);
  });

  it('refuse another body for the same key', async () => {
    const page = await here.visit('payments');
    await page.press('Send');
    await page.press('Send another body, same key');
    const [refused] = await page.answers();
    expect(refused).toMatchObject({ status: '422 Unprocessable Entity', label: 'Refused', body: { code: 'IDEMPOTENCY_KEY_REUSED' } });
    expect(await page.tally('With protection')).toBe('Charged once');
    expect(page.refusals).toEqual(['POST /payments 422']);
  });

  it('are charged twice without protection, in either way', async () => {
    const before = await charges();
    const page = await here.visit('payments');
    await page.switchProtection();
    await page.press('Send twice at once');
    expect(await page.statuses()).toEqual(['201 Created: Carried out', '201 Created: Carried out']);
    expect(await page.tally('Without')).toBe('Charged 2 times');
    await page.press('New key');
    await page.press('Lose the answer');
    expect(await page.tally('Without')).toBe('Charged once'); // though Chromium repeats a request by itself, here over a connection of long standing
    await page.press('Retry');
    expect(await page.tally('Without')).toBe('Charged 2 times');
    expect(await page.tally('With protection')).toBe('Not tried yet');
    expect(await charges()).toBe(before + 4);
  });

  it('are new ones with a new key', async () => {
    const before = await charges();
    const page = await here.visit('payments');
    await page.press('Send');
    await page.press('New key');
    await page.press('Send');
    expect(await page.statuses()).toEqual(['201 Created: Carried out', '201 Created: Carried out']);
    expect(await page.tally('With protection')).toBe('Charged once'); // for this key
    expect(await charges()).toBe(before + 2);
  });

  it('are asked for under a key, which may be edited', async () => {
    const page = await here.visit('payments');
    const key = page.page.getByRole('textbox', { name: 'Idempotency-Key' });
    await key.fill('');
    await page.press('Send');
    expect((await page.answers())[0]).toMatchObject({ status: '400 Bad Request', body: { code: 'IDEMPOTENCY_KEY_REQUIRED' } });
    await key.fill('a key of my own');
    await page.press('Send');
    expect((await page.answers())[0]).toMatchObject({ status: '201 Created', label: 'Carried out' });
    expect(await page.records()).toEqual([expect.stringMatching(/completed\s+a key of my own\s+new/)]);
  });

  it('mean something else under the same key of another customer', async () => {
    const page = await here.visit('payments');
    await page.press('Send');
    await page.choose('Bob');
    await page.press('Send');
    await page.press('Retry');
    await page.choose('Alice');
    await page.press('Retry');
    const answers = await page.answers();
    expect(answers.map(({ label, body }) => `${String(body['userId'])}: ${label}`)).toEqual([
      'alice: Replay',
      'bob: Replay',
      'bob: Carried out',
      'alice: Carried out',
    ]);
  });

  it('may be declined: the refusal is an answer, given again, and of the order nothing is left', async () => {
    const before = await count('orders');
    const page = await here.visit('payments');
    await page.select('is declined');
    await page.press('Send');
    await page.press('Retry');
    expect(await page.statuses()).toEqual(['402 Payment Required: Replay', '402 Payment Required: Refused']);
    expect((await page.rows("The payment provider's book"))[0]).toEqual(['A lamp', '42.00', 'declined', expect.any(String)]);
    expect(await count('orders')).toBe(before);
    expect(await page.tally('With protection')).toBe('Not charged');
  });

  it('show their record, its step and their rows beside, and mark what is new', async () => {
    const page = await here.visit('payments');
    await page.press('Send');
    const [record] = await page.records();
    expect(record).toMatch(
      /completed[\s\S]*new[\s\S]*status 201 · attempt 1 · expires in 23 h 59 min[\s\S]*step charge[\s\S]*"kind":"charged"/,
    );
    for (const table of ['Payments', 'Orders', 'Ledger', "The payment provider's book"]) {
      const rows = await page.rows(table);
      expect(rows.map(([first]) => first?.endsWith('new'))).toEqual([true, ...rows.slice(1).map(() => false)]);
    }
    await page.press('Retry');
    expect((await page.rows('Payments')).some(([first]) => first?.endsWith('new'))).toBe(false);
  });
});
