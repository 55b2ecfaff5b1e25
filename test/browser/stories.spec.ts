import { describe, expect, it } from '@jest/globals';
import { describeInBrowser } from './support/describe-in-browser.js';
import { visitors } from './support/visitors.js';

describeInBrowser('the page, story by story', () => {
  const here = visitors();

  describe('orders', () => {
    it('are placed once by a key, and once by an id of the client', async () => {
      const page = await here.visit('orders');
      await page.press('Lose the answer');
      await page.press('Retry');
      expect((await page.answers())[0]).toMatchObject({ status: '201 Created', label: 'Replay', body: { item: 'A kettle' } });
      await page.press('Send another body, same key');
      expect((await page.answers())[0]).toMatchObject({ body: { code: 'IDEMPOTENCY_KEY_REUSED' } });
      expect(await page.tally('With protection')).toBe('1 order');

      await page.choose('PUT with your own id');
      await page.press('Send twice at once');
      expect((await page.statuses()).slice(0, 2).sort()).toEqual(['200 OK: Carried out', '201 Created: Carried out']);
      await page.press('Send another body');
      expect((await page.answers())[0]?.status).toBe('409 Conflict');
      expect(await page.tally('With protection')).toBe('2 orders');
      expect(await page.rows('Orders')).toHaveLength(2);
    });

    it('are placed twice without protection, where there is no PUT either', async () => {
      const page = await here.visit('orders');
      await page.choose('PUT with your own id');
      await page.switchProtection();
      await page.press('Send twice at once');
      expect(await page.tally('Without')).toBe('2 orders');
      expect(await page.statuses()).toEqual(['201 Created: Carried out', '201 Created: Carried out']);
    });
  });

  describe('the profile', () => {
    const editInBothTabs = async (page: Awaited<ReturnType<typeof here.visit>>): Promise<void> => {
      for (const step of ['Tab A: open', 'Tab B: open', 'Tab A: save', 'Tab B: save']) {
        await page.choose(step);
        await page.press('Send');
      }
    };

    it('keeps what one tab has saved when another saves an older version', async () => {
      const page = await here.visit('profile');
      await editInBothTabs(page);
      expect(await page.statuses()).toEqual([
        '412 Precondition Failed: Refused',
        '200 OK: Carried out',
        '200 OK: Carried out',
        '200 OK: Carried out',
      ]);
      expect(await page.tally('With protection')).toBe('No edit lost');
      await page.choose('Tab B: open');
      await page.press('Send');
      await page.choose('Tab B: save');
      await page.press('Send');
      expect((await page.answers())[0]?.text).toContain('ETag');
      expect(await page.rows('Profile')).toEqual([['Alice Archerchanged', '1 Mill Lane', '3']]);
      await page.choose('Tab B: open');
      await page.press('Send');
      expect((await page.statuses())[0]).toBe('304 Not Modified: Not modified');
    });

    it('says that a tab has nothing to save before it has read', async () => {
      const page = await here.visit('profile');
      await page.choose('Tab A: save');
      await page.page.getByText('Open the profile in tab A first').waitFor();
      expect(await page.button('Send').count()).toBe(0);
    });

    it('loses an edit without protection', async () => {
      const page = await here.visit('profile');
      await page.switchProtection();
      await editInBothTabs(page);
      expect((await page.statuses()).every((status) => status === '200 OK: Carried out')).toBe(true);
      expect(await page.tally('Without')).toBe('1 edit lost');
    });
  });

  describe('accounts', () => {
    it('see money move once for one transaction id, at once or again', async () => {
      const page = await here.visit('accounts');
      await page.press('Send twice at once');
      expect((await page.statuses()).sort()).toEqual(['200 OK: Carried out', '201 Created: Carried out']);
      await page.press('Lose the answer');
      await page.press('Retry');
      await page.press('Send another body');
      expect((await page.statuses()).slice(0, 2)).toEqual(['422 Unprocessable Entity: Refused', '200 OK: Carried out']);
      expect(await page.tally('With protection')).toBe('Moved once');
      expect(await page.rows('Accounts')).toEqual([
        ['alice-current', '975.00'],
        ['alice-savings', '1025.00'],
      ]);
    });

    it('see it move twice without protection', async () => {
      const page = await here.visit('accounts');
      await page.switchProtection();
      await page.press('Lose the answer');
      await page.press('Retry');
      expect(await page.tally('Without')).toBe('Moved 2 times');
    });
  });

  describe('reservations', () => {
    it('are made once and decided once', async () => {
      const page = await here.visit('reservations');
      await page.choose('Commit');
      await page.page.getByText('Reserve something first').waitFor();
      await page.choose('Reserve');
      await page.press('Lose the answer');
      await page.press('Retry');
      expect((await page.statuses())[0]).toBe('201 Created: Replay');
      await page.choose('Commit');
      await page.press('Send twice at once');
      expect((await page.statuses()).slice(0, 2).sort()).toEqual(['200 OK: Carried out', '200 OK: Replay']);
      await page.choose('Cancel');
      await page.press('Send');
      expect((await page.statuses())[0]).toBe('409 Conflict: Refused');
      expect(await page.tally('With protection')).toBe('Reserved once');
      expect(await page.rows('Reservations')).toEqual([['A chair', '1', 'committed', expect.any(String)]]);
      expect((await page.rows('Stock'))[0]).toEqual(['A chair', '39']);
    });

    it('show their records by key and by reference', async () => {
      const page = await here.visit('reservations');
      await page.press('Send');
      await page.choose('Cancel');
      await page.press('Send');
      expect((await page.rows('Stock'))[0]).toEqual(['A chairchanged', '39']); // the committed one is gone
      const records = (await page.records()).slice(0, 2);
      expect(records).toEqual([expect.stringContaining('POST /reservations/:reference/cancel'), expect.stringContaining('status 201')]);
    });

    it('are made twice without protection, and what is cancelled twice comes back twice', async () => {
      const page = await here.visit('reservations');
      await page.switchProtection();
      await page.select('a table');
      await page.press('Send twice at once');
      expect(await page.tally('Without')).toBe('Reserved 2 times');
      await page.press('New key');
      await page.press('Send');
      await page.choose('Cancel');
      await page.press('Send');
      await page.press('Retry');
      expect(await page.tally('Without')).toBe('Reserved once');
      expect(await page.page.getByRole('status').innerText()).toContain('1 piece too many on the shelf.');
    });
  });

  describe('webhooks', () => {
    it('enter a payout once and a refund for good, told twice and in the wrong order', async () => {
      const page = await here.visit('webhooks');
      await page.choose('Pay first');
      await page.press('Send');
      await page.choose('Refund, told first');
      await page.press('Send twice at once');
      await page.choose('Pay out, told twice');
      await page.press('Send');
      expect(await page.tally('With protection')).toBe('Payout entered once');
      expect((await page.rows('Payments'))[0]?.[2]).toBe('refunded');
      expect((await page.rows('Ledger')).map(([debit, credit]) => `${String(debit)} ${String(credit)}`).sort()).toEqual([
        'bank provider',
        'provider sales',
        'sales provider',
      ]);
      expect((await page.records()).filter((record) => record.includes('POST /webhooks/payments'))).toHaveLength(2);
    });

    it('enter it twice without protection, and forget the refund', async () => {
      const page = await here.visit('webhooks');
      await page.switchProtection();
      await page.press('Send');
      await page.choose('Refund, told first');
      await page.press('Send');
      expect(await page.page.getByRole('status').innerText()).toContain('settled, though it was refunded');
      await page.choose('Pay out, told twice');
      await page.press('Send');
      expect(await page.tally('Without')).toBe('Payout entered 3 times');
    });
  });

  describe('mail', () => {
    it('comes once, after the commit', async () => {
      const page = await here.visit('mail');
      await page.press('Send twice at once');
      await page.press('Retry');
      expect(await page.tally('With protection')).toBe('Mailed once');
      expect((await page.records()).some((record) => /completed[\s\S]*mail[\s\S]*step send/.test(record))).toBe(true);
    });

    it('is not sent for an order that was rolled back', async () => {
      const page = await here.visit('mail');
      await page.select('is declined');
      await page.press('Send');
      expect(await page.tally('With protection')).toBe('No mail');
    });

    it('comes twice without protection, and for orders that never were', async () => {
      const page = await here.visit('mail');
      await page.switchProtection();
      await page.press('Send twice at once');
      expect(await page.tally('Without')).toBe('Mailed 2 times');
      await page.press('New key');
      await page.select('is declined');
      await page.press('Send');
      expect(await page.tally('Without')).toBe('Mailed once');
      expect(await page.page.getByRole('status').innerText()).toContain('0 orders are paid');
    });
  });

  describe('the contact form', () => {
    it('takes two clicks for one message', async () => {
      const page = await here.visit('contact');
      await page.press('Send twice at once');
      const [record] = await page.records();
      expect(record).toContain('deduplicate POST /contact');
      expect(await page.tally('With protection')).toBe('Received once');
      const statuses = await page.statuses();
      expect(statuses).toContain('201 Created: Carried out');
      expect(statuses.some((status) => ['201 Created: Replay', '409 Conflict: Refused'].includes(status))).toBe(true);
    });

    it('takes them for two without protection', async () => {
      const page = await here.visit('contact');
      await page.switchProtection();
      await page.press('Send twice at once');
      expect(await page.tally('Without')).toBe('Received 2 times');
    });
  });

  describe('an import that fails in the middle', () => {
    it('goes on behind the last finished batch', async () => {
      const page = await here.visit('imports');
      await page.press('Send');
      expect((await page.statuses())[0]).toBe('502 Bad Gateway: Failed');
      expect(await page.tally('With protection')).toBe('100 of 250 rows');
      expect((await page.records())[0]).toMatch(/^open[\s\S]*step batch 1/);
      await page.press('Retry');
      expect((await page.answers())[0]).toMatchObject({ status: '201 Created', body: { imported: 250 } });
      expect(await page.tally('With protection')).toBe('250 of 250 rows');
      expect((await page.records())[0]).toMatch(/^completed[\s\S]*attempt 2[\s\S]*step batch 3/);
      expect((await page.rows('Products, by batch')).map(([, , rows]) => rows)).toEqual(['50', '100', '100']);
    });

    it('begins at the beginning without protection', async () => {
      const page = await here.visit('imports');
      await page.switchProtection();
      await page.press('Send');
      await page.press('Retry');
      expect(await page.tally('Without')).toBe('350 of 250 rows');
    });
  });
});
