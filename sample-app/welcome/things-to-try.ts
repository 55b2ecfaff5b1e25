import { randomUUID } from 'node:crypto';

export interface ThingToTry {
  readonly what: string;
  readonly command: string;
}

/** Commands for a shell, to be pasted as they are. The key is a new one each time this is called. */
export function thingsToTry(origin: string): readonly ThingToTry[] {
  const key = randomUUID();
  const asAlice = `-H 'Authorization: Bearer alice-token'`;
  const json = (body: object): string => `-H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
  const post = (path: string, body: object, idempotencyKey?: string): string =>
    [`curl -i ${origin}${path} ${asAlice}`, ...(idempotencyKey ? [`-H 'Idempotency-Key: ${idempotencyKey}'`] : []), json(body)].join(' ');
  const put = (path: string, body: object, ...fields: string[]): string =>
    [`curl -i -X PUT ${origin}${path} ${asAlice}`, ...fields.map((field) => `-H '${field}'`), json(body)].join(' ');
  const get = (path: string): string => `curl ${origin}${path} ${asAlice}`;

  return [
    {
      what: 'Pay. Then send the same line again: the same bytes come back, with "Idempotent-Replayed: true".',
      command: post('/payments', { amount: 4200, card: 'tok_visa', description: 'A lamp' }, key),
    },
    {
      what: 'The same key for another payment is refused with 422.',
      command: post('/payments', { amount: 9900, card: 'tok_visa', description: 'A sofa' }, key),
    },
    {
      what: 'How often was the card charged? This is the book of the payment provider.',
      command: get('/provider/charges'),
    },
    {
      what: "What is in the shop's own books? The order, its payment and the ledger entry were committed together with the answer.",
      command: get('/ledger'),
    },
    { what: 'The confirmation of the order, sent over SMTP after the commit, and once.', command: get('/mails') },
    {
      what: 'Let the provider pay out. It tells the shop by a signed webhook, delivered twice: entered in the ledger once.',
      command: post('/provider/payouts', { description: 'A lamp' }),
    },
    {
      what: 'Let it refund, and tell of the refund first and of the payout afterwards: the payment stays refunded, see GET /payments.',
      command: post('/provider/refunds', { description: 'A lamp' }),
    },
    {
      what:
        'A charge that takes ten seconds. Meanwhile send it from a second terminal: 409. Or crash the shop meanwhile ' +
        `(kill -9 ${process.pid}), start it again and send the line again: the key is free, and the card is charged once.`,
      command: post('/payments', { amount: 1500, card: 'tok_slow', description: 'A clock' }, randomUUID()),
    },
    {
      what: 'A declined card: the 402 is an answer like any other, kept and given again. The order is rolled back.',
      command: post('/payments', { amount: 700, card: 'tok_declined', description: 'A mug' }, randomUUID()),
    },
    {
      what: 'The provider is down for the first try: 502, which is not kept, so the same line works when sent again.',
      command: post('/payments', { amount: 300, card: 'tok_down_once', description: 'A spoon' }, randomUUID()),
    },
    {
      what: 'A payment without a key is refused with 400.',
      command: post('/payments', { amount: 4200, card: 'tok_visa', description: 'A lamp' }),
    },
    {
      what: 'An order on account may go without a key: then each one counts.',
      command: post('/orders', { item: 'A lamp', quantity: 2 }),
    },
    {
      what: 'An order under an id that you have made up needs no key: 201, and when it is sent again 200 with the same order.',
      command: put(`/orders/${randomUUID()}`, { item: 'A broom', quantity: 1 }),
    },
    {
      what: 'A reference of yours belongs to one order. Without a key the same line is no retry but a second order: 409, naming the first.',
      command: post('/orders', { item: 'A bucket', quantity: 1, reference: `R-${key}` }),
    },
    { what: 'Your profile. Its version is the "ETag".', command: `curl -i ${origin}/profile ${asAlice}` },
    {
      what: 'Change the profile that you have read, by its "ETag". Sent again it gets 412: that version is no more, and nobody overwrites what they have not seen.',
      command: put('/profile', { name: 'Alice', address: '1 Mill Lane' }, 'If-Match: "1"'),
    },
    {
      what: 'The contact form of a page sends no key and no token. Twice within ten seconds is one message, with the same thanks.',
      command: `curl -i ${origin}/contact ${json({ email: 'dora@example.com', message: 'Is the lamp still there?' })}`,
    },
    {
      what: 'Move money. The transaction id tells a retry: 201, and when it is sent again 200 with the same transfer, and nothing moves.',
      command: post('/transfers', { transactionId: randomUUID(), from: 'alice-current', to: 'bob-current', amount: 500 }),
    },
    { what: 'What is left in your accounts.', command: get('/accounts') },
    {
      what:
        'Reserve a chair, for as long as RESERVATION_TTL says (ten minutes). ' +
        'Buy it with POST /reservations/<reference>/commit or put it back with …/cancel; a second click is answered like the first.',
      command: post('/reservations', { item: 'A chair', quantity: 1 }, randomUUID()),
    },
    { what: 'What is still on the shelf: less by what is reserved, until that expires.', command: get('/stock') },
    {
      what:
        'Import products. The supplier, who says what they cost, is down for the first try: 502. ' +
        'The same line sent again goes on behind the batches that were finished.',
      command: post('/imports', { products: [{ sku: `DOWN-ONCE-${key.slice(0, 8).toUpperCase()}`, name: 'A kettle' }] }, randomUUID()),
    },
    { what: 'Your orders and payments.', command: `${get('/orders')}; ${get('/payments')}` },
  ];
}
