import { BadGatewayException, HttpException, HttpStatus, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import type { IdempotentExecution } from '../../lib/index.js';
import type { User } from '../auth/users.js';
import { Ledger } from '../ledger/ledger.js';
import { Outbox } from '../mail/outbox.js';
import type { Mail } from '../mail/outbox.js';
import { Order } from '../orders/order.entity.js';
import { PaymentProvider } from '../provider/payment-provider.js';
import type { ChargeRequest, ChargeResult } from '../provider/payment-provider.js';
import type { CreatePaymentDto } from './create-payment.dto.js';
import { Payment } from './payment.entity.js';

/** What of a charge is worth keeping; that the provider was away is none of it. */
type Charge = Exclude<ChargeResult, { kind: 'unavailable' }>;

@Injectable()
export class PaymentsService {
  constructor(
    @InjectRepository(Payment) private readonly payments: Repository<Payment>,
    private readonly provider: PaymentProvider,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox,
  ) {}

  /**
   * The rows are written through `execution.manager`, and so they commit together with the answer, or
   * not at all. `IdempotencyService.manager` would do the same here; but where there is no transaction,
   * it is the DataSource's own and writes all the same, and this one throws.
   *
   * The charge can't be rolled back. As a step it is asked for until there is one answer, always under
   * one key, and that answer outlives a rollback or a crash: whoever resumes is given it, and does not ask again.
   */
  async pay(user: User, payment: CreatePaymentDto, execution: IdempotentExecution): Promise<Payment> {
    const { amount, card, description } = payment;
    const { manager } = execution;
    const order = await manager.save(Order, { userId: user.id, item: description, quantity: 1 });
    const charge = await execution.step('charge', ({ key }) => this.charge({ idempotencyKey: key, card, amount, description }));
    if (charge.kind === 'declined') throw new HttpException('The card was declined.', HttpStatus.PAYMENT_REQUIRED);
    const { chargeId } = charge;
    const paid = await manager.save(Payment, { userId: user.id, orderId: order.id, amount, description, chargeId, state: 'paid' });
    await this.ledger.enter(manager, { paymentId: paid.id, amount, debit: 'provider', credit: 'sales' });
    await this.outbox.noteDown(manager, confirmationOf(order, user));
    return paid;
  }

  list(user: User): Promise<Payment[]> {
    return this.payments.find({ where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }

  /** A step records results and no errors: what is to be tried again is thrown. */
  private async charge(request: ChargeRequest): Promise<Charge> {
    const result = await this.provider.charge(request);
    if (result.kind !== 'unavailable') return result;
    throw new BadGatewayException('The payment provider is not available. Nothing was charged; try again.');
  }
}

function confirmationOf({ id }: Order, { email }: User): Mail {
  return { about: id, recipient: email, subject: `Your order ${id}`, text: 'It is paid, and on its way.' };
}
