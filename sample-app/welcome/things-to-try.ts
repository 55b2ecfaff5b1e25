import { randomUUID } from 'node:crypto';

export interface ThingToTry {
  readonly what: string;
  readonly command: string;
}

/** Commands for a shell, to be pasted as they are. The key is a new one each time this is called. */
export function thingsToTry(origin: string): readonly ThingToTry[] {
  const key = randomUUID();
  const post = (path: string, body: object, idempotencyKey?: string): string =>
    [
      `curl -i ${origin}${path} -H 'Authorization: Bearer alice-token' -H 'Content-Type: application/json'`,
      ...(idempotencyKey ? [`-H 'Idempotency-Key: ${idempotencyKey}'`] : []),
      `-d '${JSON.stringify(body)}'`,
    ].join(' ');
  const get = (path: string): string => `curl ${origin}${path} -H 'Authorization: Bearer alice-token'`;

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
    { what: 'Your orders and payments.', command: `${get('/orders')}; ${get('/payments')}` },
  ];
}
