import { Body, Controller, HttpCode, NotFoundException, Post, UseGuards } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { Public } from '../auth/public.js';
import { Ledger } from '../ledger/ledger.js';
import { MOVED } from '../payments/payment-news.js';
import { Payment } from '../payments/payment.entity.js';
import { PaymentEventDto } from '../webhooks/payment-event.dto.js';
import { SignatureGuard } from '../webhooks/signature.guard.js';
import { NEWS } from '../webhooks/webhooks.controller.js';

@Controller('unprotected/webhooks')
export class UnprotectedWebhooksController {
  constructor(
    private readonly dataSource: DataSource,
    private readonly ledger: Ledger,
  ) {}

  /** Each delivery is entered, and the payment is what the last one of them says. */
  @Post('payments')
  @Public(true)
  @UseGuards(SignatureGuard)
  @SkipIdempotency()
  @HttpCode(200)
  async onEvent(@Body() { id, type, chargeId }: PaymentEventDto): Promise<object> {
    const { manager } = this.dataSource;
    const [payment, news] = [await manager.findOneBy(Payment, { chargeId }), NEWS.get(type)];
    if (payment === null) throw new NotFoundException('There is no payment with this charge.');
    if (news !== undefined) {
      await this.ledger.enter(manager, { paymentId: payment.id, amount: payment.amount, ...MOVED[news] });
      await manager.update(Payment, { id: payment.id }, { state: news });
    }
    return { received: id };
  }
}
