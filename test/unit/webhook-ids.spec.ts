import { describe, expect, it } from '@jest/globals';
import { adyenEventId, githubDeliveryId, stripeEventId } from '../../lib/recipes/webhook-ids.js';

const codeOf = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
};
const REQUIRED = 'IDEMPOTENCY_KEY_REQUIRED';
const INVALID = 'IDEMPOTENCY_KEY_INVALID';

describe('Stripe', () => {
  const event = { id: 'evt_1', object: 'event', type: 'invoice.paid' };

  it('knows its events by their id, in a parsed body or in its bytes', () => {
    expect([event, JSON.stringify(event), Buffer.from(JSON.stringify(event))].map(stripeEventId)).toEqual(['evt_1', 'evt_1', 'evt_1']);
  });

  it.each<[unknown, unknown]>([
    [{}, REQUIRED],
    [undefined, REQUIRED],
    [null, REQUIRED],
    ['not JSON', REQUIRED],
    [{ id: null }, REQUIRED],
    [{ id: '' }, INVALID],
    [{ id: { nested: 1 } }, INVALID],
  ])('%j is none: %s', (body, code) => {
    expect(codeOf(() => stripeEventId(body))).toBe(code);
  });
});

describe('GitHub', () => {
  it('knows its deliveries by a header', () => {
    expect(githubDeliveryId('72d3162e-cc78-11e3-81ab-4c9367dc0958')).toBe('72d3162e-cc78-11e3-81ab-4c9367dc0958');
  });

  it.each<[string | string[] | undefined, unknown]>([
    [undefined, REQUIRED],
    ['', INVALID],
    ['one, two', INVALID],
    [['one', 'two'], INVALID],
  ])('%j is none: %s', (field, code) => {
    expect(codeOf(() => githubDeliveryId(field))).toBe(code);
  });
});

describe('Adyen', () => {
  const item = { pspReference: '7914073381342284', eventCode: 'AUTHORISATION', success: 'true', eventDate: '2026-01-01T00:00:00+01:00' };
  const notification = (...items: object[]) => ({
    live: 'false',
    notificationItems: items.map((NotificationRequestItem) => ({ NotificationRequestItem })),
  });

  it('knows its events by reference and code, whatever else differs', () => {
    expect(adyenEventId(notification(item))).toBe('7914073381342284:AUTHORISATION');
    expect(adyenEventId(notification({ ...item, eventDate: '2026-01-02T00:00:00+01:00', reason: 'later' }))).toBe(
      '7914073381342284:AUTHORISATION',
    );
    expect(adyenEventId(notification({ ...item, eventCode: 'CAPTURE' }))).toBe('7914073381342284:CAPTURE');
  });

  it('sends them flat by HTTP POST, and calls them otherwise for tokens', () => {
    expect(adyenEventId({ live: 'false', ...item })).toBe('7914073381342284:AUTHORISATION');
    expect(adyenEventId({ eventId: 'QBQQ9DLNRHHKGK38', type: 'recurring.token.created', data: {} })).toBe(
      'QBQQ9DLNRHHKGK38:recurring.token.created',
    );
  });

  it.each<[string, unknown, unknown]>([
    ['no item', notification(), REQUIRED],
    ['no reference', notification({ ...item, pspReference: undefined }), REQUIRED],
    ['no code', notification({ ...item, eventCode: undefined }), REQUIRED],
    ['nothing of the kind', { type: 'balancePlatform.transfer.updated', data: { id: '1' } }, REQUIRED],
    ['several items', notification(item, item), INVALID],
    ['an empty reference', notification({ ...item, pspReference: '' }), INVALID],
    ['a border that could be moved', notification({ ...item, pspReference: '791:CAPTURE' }), INVALID],
  ])('%s is refused: %#', (_, body, code) => {
    expect(codeOf(() => adyenEventId(body))).toBe(code);
  });
});
