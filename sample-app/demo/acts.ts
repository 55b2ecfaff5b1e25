/** The story, act by act. Each one pays for something of its own, so that none sees another's charges. */
import { randomUUID } from 'node:crypto';
import { bookOf, charged, pay, payUntilAnswered, paymentsOf } from './customer.js';
import type { BookEntry, PaymentOrder } from './customer.js';
import type { Narrator } from './narrator.js';
import type { Stage } from './stage.js';

type Act = (stage: Stage, narrator: Narrator) => Promise<void>;

const purchase = (description: string, card = 'tok_visa'): Required<PaymentOrder> => ({
  key: randomUUID(),
  amount: 4200,
  card,
  description: `${description} ${randomUUID().slice(0, 8)}`,
});

const outcomes = (book: readonly BookEntry[]): string => book.map(({ outcome }) => outcome).join();

const lostAnswer: Act = async ({ shop }, narrator) => {
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

const doubleClick: Act = async ({ shop }, narrator) => {
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

const otherBody: Act = async ({ shop }, narrator) => {
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

const missingKey: Act = async ({ shop }, narrator) => {
  narrator.act('A payment without a key');
  const { key: _left, ...payment } = purchase('A shelf');
  const answer = await pay(shop.origin, payment);
  narrator.answer('A payment without a key', answer);
  const book = await bookOf(shop.origin, payment.description);
  narrator.expect('it was refused', answer.status === 400 && answer.code === 'IDEMPOTENCY_KEY_REQUIRED');
  narrator.expect('the provider was not asked', outcomes(book) === '');
};

const declinedCard: Act = async ({ shop }, narrator) => {
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
};

const providerDown: Act = async ({ shop }, narrator) => {
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

const crashInTheMiddle: Act = async (stage, narrator) => {
  narrator.act('The shop crashes in the middle of a payment');
  const payment = purchase('A clock', 'tok_slow');
  const broken = pay(stage.shop.origin, payment).catch(() => undefined);
  await charged(stage.shop.origin, payment.description);
  await stage.shop.kill();
  const heard = await broken;
  narrator.tell('A payment is sent. The provider charges the card, and the shop is killed (SIGKILL) before it hears of it.');
  await stage.restartShop();
  narrator.tell(`The shop is started again. Its lease on the key, ${stage.lockTtl}, is still running.`);
  const answers = await payUntilAnswered(stage.shop.origin, payment);
  for (const answer of answers) narrator.answer('The same again', answer);
  const book = await bookOf(stage.shop.origin, payment.description);
  narrator.book(book);
  narrator.tell('A take-over runs the handler again: how far the first run came, nobody can know. That is why the handler gives the');
  narrator.tell(
    "provider a key derived from the client's, keyFor('charge'): the same in both runs, so the charge is asked for twice and made once.",
  );
  const [first, last] = [answers.at(0), answers.at(-1)];
  narrator.expect('nobody heard an answer before the crash', heard === undefined);
  narrator.expect(
    'while the lease ran, retries were told to wait',
    first?.code === 'IDEMPOTENCY_KEY_IN_USE' && first.retryAfter !== undefined,
  );
  narrator.expect('then a retry took over', last?.status === 201 && !last.replayed);
  narrator.expect('the provider was asked twice and charged once', outcomes(book) === 'charged,repeated');
  narrator.expect('the shop has one payment', (await paymentsOf(stage.shop.origin, payment.description)) === 1);
};

const restartBetween: Act = async (stage, narrator) => {
  narrator.act('The shop is killed after the answer');
  const payment = purchase('A mirror');
  const first = await pay(stage.shop.origin, payment);
  narrator.answer('A payment', first);
  await stage.shop.kill();
  await stage.restartShop();
  narrator.tell('The shop is killed (SIGKILL) and started again.');
  const second = await pay(stage.shop.origin, payment);
  narrator.answer('The same again', second);
  const book = await bookOf(stage.shop.origin, payment.description);
  narrator.book(book);
  narrator.expect(
    `the same ${first.body.length} bytes came back`,
    first.status === 201 && second.replayed && first.body.equals(second.body),
  );
  narrator.expect('the card was charged once', outcomes(book) === 'charged');
};

export const acts: readonly Act[] = [
  lostAnswer,
  doubleClick,
  otherBody,
  missingKey,
  declinedCard,
  providerDown,
  crashInTheMiddle,
  restartBetween,
];
