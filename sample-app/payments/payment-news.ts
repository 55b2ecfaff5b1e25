/** What the provider tells of charges, in whatever order the shop comes to hear of it. */
import { Injectable, NotFoundException } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { compareAndSet } from '../../lib/index.js';
import type { Account } from '../ledger/ledger-entry.entity.js';
import { Ledger } from '../ledger/ledger.js';
import { Payment } from './payment.entity.js';
import type { PaymentState } from './payment.entity.js';

/** A charge was paid out to the shop, or given back to the customer. */
export type News = Exclude<PaymentState, 'paid'>;

export const MOVED: Readonly<Record<News, { readonly debit: Account; readonly credit: Account }>> = {
  settled: { debit: 'bank', credit: 'provider' },
  refunded: { debit: 'sales', credit: 'provider' },
};

/** What a payment may have been before. Tried in this order: meanwhile it may go from one to the next, and never back. */
const BEFORE: Readonly<Record<News, readonly PaymentState[]>> = {
  settled: ['paid'],
  refunded: ['paid', 'settled'],
};

@Injectable()
export class PaymentNews {
  constructor(private readonly ledger: Ledger) {}

  /**
   * The money has moved, so it is entered, late or not; but a payment that was refunded is not made a
   * settled one by news of yesterday. Events of one charge may also come at once: each comparison is
   * made by Postgres with the row as it is by then, where `if (payment.state === …)` would look at a copy.
   */
  async enter(manager: EntityManager, chargeId: string, news: News): Promise<void> {
    const payment = await manager.findOneBy(Payment, { chargeId });
    if (payment === null) throw new NotFoundException('There is no payment with this charge, or not yet. Try again later.');
    const { id, amount } = payment;
    await this.ledger.enter(manager, { paymentId: id, amount, ...MOVED[news] });
    for (const state of BEFORE[news]) {
      if (await compareAndSet(manager, Payment, { id }, { state }, { state: news })) return;
    }
  }
}
