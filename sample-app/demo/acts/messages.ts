/** What comes and goes without a customer: the provider's webhooks, and mails. */
import { charged, forgeEvent, mailed, pay, payOut, tracesOf } from '../customer.js';
import { purchase } from './act.js';
import type { Act } from './act.js';

export const webhookTwice: Act = async ({ shop }, narrator) => {
  narrator.act('The provider tells of a payout: too early, twice, and somebody else does too');
  const payment = purchase('A carpet');
  const answer = pay(shop.origin, payment);
  await charged(shop.origin, payment.description);
  const early = await payOut(shop.origin, payment.description);
  narrator.deliveries('While the payment is still under way', early);
  narrator.answer('The payment', await answer);
  const later = await payOut(shop.origin, payment.description);
  narrator.deliveries('Afterwards, delivered twice', later);
  const forged = await forgeEvent(shop.origin);
  narrator.tell(`An event without the provider's signature: ${forged}`);
  const { payouts } = await tracesOf(shop.origin, payment.description);
  narrator.expect(
    'an event before its payment was refused, and not for good',
    early.every(({ status }) => status === 404),
  );
  narrator.expect(
    'then it was accepted, and its repetition known',
    later.map(({ status, replayed }) => `${status} ${replayed}`).join() === '200 false,200 true',
  );
  narrator.expect('the ledger has it once', payouts === 1);
  narrator.expect('the forged one was refused', forged === 401);
};

export const mailOnce: Act = async (stage, narrator) => {
  narrator.act('A confirmation by e-mail, once');
  const [first, second] = [purchase('A table'), purchase('A stool')];
  const answer = await pay(stage.shop.origin, first);
  narrator.answer('A payment', answer);
  await stage.shop.kill();
  narrator.tell('The shop is killed (SIGKILL) at this moment. Is the mail on its way, or not, or half?');
  await stage.restartShop();
  const again = await pay(stage.shop.origin, first);
  narrator.answer('The same again', again);
  narrator.answer('Another payment', await pay(stage.shop.origin, second));
  await mailed(stage.shop.origin, second.description);
  await mailed(stage.shop.origin, first.description);
  const { mails } = await tracesOf(stage.shop.origin, first.description);
  narrator.tell(`In the mailbox: ${mails.length} for the first order.`);
  narrator.expect('the retry was answered from the record', again.replayed && answer.body.equals(again.body));
  narrator.expect('its mail was sent; if there is a copy, then under the same Message-ID', new Set(mails).size === 1);
  narrator.expect('the other one has one mail', (await tracesOf(stage.shop.origin, second.description)).mails.length === 1);
};
