/**
 * The sample shop, able to kill itself. On SIGUSR2 it is armed, and from then on lives until it comes
 * to FATAL_POINT. If it never does, it tells which points it has passed when a mail is through, which
 * is the last thing that becomes of a payment.
 */
import 'reflect-metadata';
import { Steps } from '../../../lib/recipes/steps.js';
import { Ledger } from '../../../sample-app/ledger/ledger.js';
import { Outbox } from '../../../sample-app/mail/outbox.js';
import { PaymentsService } from '../../../sample-app/payments/payments.service.js';
import { PaymentProvider } from '../../../sample-app/provider/payment-provider.js';
import { FatalPoints } from '../fatal-points.js';

const points = new FatalPoints(process.env['FATAL_POINT']);
points.watchStatements();
points.watchCalls(PaymentsService, 'pay', 'charge');
points.watchCalls(Steps, 'step');
points.watchCalls(PaymentProvider, 'charge');
points.watchCalls(Ledger, 'enter');
points.watchCalls(Outbox, 'noteDown', 'sendOnce', 'send');

const mails = Outbox as unknown as { prototype: Record<'sendPending' | 'sendOnce', (...args: unknown[]) => Promise<void>> };
const { sendPending, sendOnce } = mails.prototype;
let looking = false;

mails.prototype.sendPending = async function (...args) {
  looking = true;
  await sendPending.apply(this, args);
  looking = false;
};

mails.prototype.sendOnce = async function (...args) {
  await sendOnce.apply(this, args);
  console.log(`a mail is through: ${JSON.stringify(points.passed)}`);
};

/** What is still done for an earlier payment is none of this one's points. */
process.on('SIGUSR2', () => {
  const rest = setInterval(() => {
    if (looking) return;
    clearInterval(rest);
    points.arm();
    console.log('armed');
  }, 5);
});

await import('../../../sample-app/main.js');
