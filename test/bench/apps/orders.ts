/** The order that everybody places, and the answer to it: the same bytes in every application and in the client that checks them. */

export interface Order {
  readonly sku: string;
  readonly quantity: number;
  readonly customer: string;
  readonly note: string;
}

export const ORDER: Order = { sku: 'SKU-000123', quantity: 2, customer: 'customer-0042', note: 'Leave it at the door, please.' };

/** About 300 bytes as JSON, as answers to a POST often are. */
export function answerTo(id: string, { sku, quantity, customer, note }: Order): object {
  return {
    id,
    status: 'accepted',
    customer,
    lines: [{ sku, quantity, unitPrice: 1999, total: 1999 * quantity }],
    currency: 'EUR',
    total: 1999 * quantity,
    note,
    delivery: { method: 'standard', promised: '2026-01-15', street: '1 Harbour Road', city: 'Port Sample' },
    links: { self: '/orders/self', cancel: '/orders/cancel' },
  };
}

/** One made for all: what is measured is how an answer is held and sent, not how it is put together. With its frame it is 1 MiB exactly. */
export const LARGE_ANSWER_BYTES = 1024 * 1024;
export const LARGE_ANSWER = { text: 'x'.repeat(LARGE_ANSWER_BYTES - JSON.stringify({ text: '' }).length) };

/** Before it is given: time enough to stop the world between a claim and its completion. */
export const LARGE_WORK_MS = 300;
