/** What goes wrong on the way between a customer and the shop. */
import { bookOf, charged, pay, payUntilAnswered, tracesOf } from '../customer.js';
import { outcomes, purchase } from './act.js';
import type { Act } from './act.js';

export const lostAnswer: Act = async ({ shop }, narrator) => {
  narrator.act('The answer is lost, and the client tries again');
  const payment = purchase('A lamp');
  const connection = new AbortController();
  const lost = pay(shop.origin, payment, connection.signal).catch(() => undefined);
  await charged(shop.origin, payment.description);
  connection.abort();
  const heard = await lost;
  narrator.tell('A payment is sent. The provider charges the card, and the connection breaks before the answer.');
  const answers = await payUntilAnswered(shop.origin, payment);
  for (const answer of answers) narrator.answer('The same again', answer);
  const book = await bookOf(shop.origin, payment.description);
  narrator.book(book);
  const last = answers.at(-1);
  narrator.expect('the client never heard the first answer', heard === undefined);
  narrator.expect('the retry got it', last?.status === 201 && last.replayed);
  narrator.expect('the card was charged once', outcomes(book) === 'charged');
};

export const doubleClick: Act = async ({ shop }, narrator) => {
  narrator.act('Somebody clicks twice');
  const payment = purchase('A kettle');
  const both = await Promise.all([pay(shop.origin, payment), pay(shop.origin, payment)]);
  const [refused, first] = both.toSorted((a, b) => b.status - a.status);
  narrator.answer('One of the two', first ?? both[0]);
  narrator.answer('The other one', refused ?? both[1]);
  const later = await pay(shop.origin, payment);
  narrator.answer('The same again, later', later);
  const book = await bookOf(shop.origin, payment.description);
  narrator.book(book);
  narrator.expect(
    'one was carried out, the other was told to come back',
    first?.status === 201 && refused?.code === 'IDEMPOTENCY_KEY_IN_USE',
  );
  narrator.expect(`later it got the same ${later.body.length} bytes`, later.replayed && first?.body.equals(later.body) === true);
  narrator.expect('the card was charged once', outcomes(book) === 'charged');
};

export const otherBody: Act = async ({ shop }, narrator) => {
  narrator.act('The same key for another payment');
  const payment = purchase('A chair');
  narrator.answer('42.00 with a key', await pay(shop.origin, payment));
  const answer = await pay(shop.origin, { ...payment, amount: 9900 });
  narrator.answer('99.00 with the same key', answer);
  const book = await bookOf(shop.origin, payment.description);
  narrator.book(book);
  narrator.expect('the second one was refused', answer.status === 422 && answer.code === 'IDEMPOTENCY_KEY_REUSED');
  narrator.expect('the card was charged once', outcomes(book) === 'charged');
};

export const missingKey: Act = async ({ shop }, narrator) => {
  narrator.act('A payment without a key');
  const { key: _left, ...payment } = purchase('A shelf');
  const answer = await pay(shop.origin, payment);
  narrator.answer('A payment without a key', answer);
  const book = await bookOf(shop.origin, payment.description);
  narrator.expect('it was refused', answer.status === 400 && answer.code === 'IDEMPOTENCY_KEY_REQUIRED');
  narrator.expect('the provider was not asked', outcomes(book) === '');
};

export const declinedCard: Act = async ({ shop }, narrator) => {
  narrator.act('The card is declined');
  const payment = purchase('A rug', 'tok_declined');
  const first = await pay(shop.origin, payment);
  narrator.answer('A payment', first);
  const second = await pay(shop.origin, payment);
  narrator.answer('The same again', second);
  const book = await bookOf(shop.origin, payment.description);
  narrator.book(book);
  narrator.expect('no is an answer too, and is given again', first.status === 402 && second.replayed && first.body.equals(second.body));
  narrator.expect('the provider was asked once', outcomes(book) === 'declined');
  narrator.expect('the order was rolled back', (await tracesOf(shop.origin, payment.description)).orders === 0);
};

export const providerDown: Act = async ({ shop }, narrator) => {
  narrator.act('The provider is down for a moment');
  const payment = purchase('A vase', 'tok_down_once');
  const first = await pay(shop.origin, payment);
  narrator.answer('A payment', first);
  const second = await pay(shop.origin, payment);
  narrator.answer('The same again', second);
  const book = await bookOf(shop.origin, payment.description);
  narrator.book(book);
  narrator.expect(
    'a failure of the server is not kept: the key is free, and the retry runs',
    first.status === 502 && second.status === 201 && !second.replayed,
  );
  narrator.expect('the card was charged once', outcomes(book) === 'unavailable,charged');
};
