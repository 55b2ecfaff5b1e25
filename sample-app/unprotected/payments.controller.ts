import { randomUUID } from 'node:crypto';
import { BadGatewayException, Body, Controller, HttpException, HttpStatus, Inject, Post } from '@nestjs/common';
import type { Transporter } from 'nodemailer';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { Ledger } from '../ledger/ledger.js';
import { MAIL_TRANSPORT, SHOP_ADDRESS } from '../mail/outbox.js';
import { Order } from '../orders/order.entity.js';
import { CreatePaymentDto } from '../payments/create-payment.dto.js';
import { Payment } from '../payments/payment.entity.js';
import { PaymentProvider } from '../provider/payment-provider.js';

@Controller('unprotected/payments')
export class UnprotectedPaymentsController {
  constructor(
    private readonly dataSource: DataSource,
    private readonly provider: PaymentProvider,
    private readonly ledger: Ledger,
    @Inject(MAIL_TRANSPORT) private readonly mails: Transporter,
  ) {}

  /**
   * Every request is a new payment: the provider gets a key that nobody will ever send it again. And a
   * transaction alone is no help: it takes back neither the charge nor the mail.
   */
  @Post()
  @SkipIdempotency()
  create(@CurrentUser() user: User, @Body() { amount, card, description }: CreatePaymentDto): Promise<Payment> {
    return this.dataSource.transaction(async (manager) => {
      const order = await manager.save(Order, { userId: user.id, item: description, quantity: 1 });
      const [subject, text] = [`Your order ${order.id}`, 'It is paid, and on its way.'];
      await this.mails.sendMail({ from: `The shop <${SHOP_ADDRESS}>`, to: user.email, subject, text });
      const charge = await this.provider.charge({ idempotencyKey: randomUUID(), card, amount, description });
      if (charge.kind === 'unavailable') throw new BadGatewayException('The payment provider is not available.');
      if (charge.kind === 'declined') throw new HttpException('The card was declined.', HttpStatus.PAYMENT_REQUIRED);
      const payment = { userId: user.id, orderId: order.id, amount, description, chargeId: charge.chargeId, state: 'paid' } as const;
      const paid = await manager.save(Payment, payment);
      await this.ledger.enter(manager, { paymentId: paid.id, amount, debit: 'provider', credit: 'sales' });
      return paid;
    });
  }
}
