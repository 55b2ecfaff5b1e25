/** What goes wrong when a process dies. */
import { bookOf, charged, pay, payUntilAnswered, tracesOf } from '../customer.js';
import { outcomes, purchase } from './act.js';
import type { Act } from './act.js';

export const crashInTheMiddle: Act = async (stage, narrator) => {
  narrator.act('The shop crashes while the provider charges the card');
  const payment = purchase('A clock', 'tok_slow');
  const broken = pay(stage.shop.origin, payment).catch(() => undefined);
  await charged(stage.shop.origin, payment.description);
  await stage.shop.kill();
  const heard = await broken;
  narrator.tell('A payment is sent. The provider charges the card, and the shop is killed (SIGKILL) before it hears of it.');
  await stage.restartShop();
  narrator.tell('The shop is started again. Of the payment nothing is left: its transaction was rolled back.');
  const answers = await payUntilAnswered(stage.shop.origin, payment);
  for (const answer of answers) narrator.answer('The same again', answer);
  const book = await bookOf(stage.shop.origin, payment.description);
  narrator.book(book);
  narrator.tell('Whether the provider has charged, the shop could not know. So it asked again, with the key of the first time: the same');
  narrator.tell("in both runs, as it is derived from the client's. The charge was asked for twice and made once.");
  const last = answers.at(-1);
  narrator.expect('nobody heard an answer before the crash', heard === undefined);
  narrator.expect('the retry ran', last?.status === 201 && !last.replayed);
  narrator.expect('the provider was asked twice and charged once', outcomes(book) === 'charged,repeated');
  narrator.expectOneOf(await tracesOf(stage.shop.origin, payment.description));
};

export const crashAfterCharge: Act = async (stage, narrator) => {
  narrator.act('The shop crashes between the charge and its own books');
  const payment = purchase('A piano');
  const letGo = await stage.holdLedger();
  const broken = pay(stage.shop.origin, payment).catch(() => undefined);
  await stage.ledgerIsWaitedFor();
  await stage.shop.kill();
  await letGo();
  const heard = await broken;
  narrator.tell('A payment is sent. The card is charged, and the shop is killed (SIGKILL) in the middle of its entry in the ledger.');
  await stage.restartShop();
  const answers = await payUntilAnswered(stage.shop.origin, payment);
  for (const answer of answers) narrator.answer('The same again', answer);
  const book = await bookOf(stage.shop.origin, payment.description);
  narrator.book(book);
  narrator.tell("This time the provider's answer had been recorded, as a step. The retry was given it, and did not ask.");
  const last = answers.at(-1);
  narrator.expect('nobody heard an answer before the crash', heard === undefined);
  narrator.expect('the retry ran', last?.status === 201 && !last.replayed);
  narrator.expect('the provider was asked once', outcomes(book) === 'charged');
  narrator.expectOneOf(await tracesOf(stage.shop.origin, payment.description));
};

export const restartBetween: Act = async (stage, narrator) => {
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
