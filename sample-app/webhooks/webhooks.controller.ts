import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { CurrentExecution, Idempotent, fromWebhook } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { Public } from '../auth/public.js';
import { PaymentNews } from '../payments/payment-news.js';
import type { News } from '../payments/payment-news.js';
import { PaymentEventDto } from './payment-event.dto.js';
import { SignatureGuard } from './signature.guard.js';

/** The provider sends events of more types, and the next one without asking. What means nothing here is received, and that is all. */
export const NEWS: ReadonlyMap<string, News> = new Map([
  ['charge.settled', 'settled'],
  ['charge.refunded', 'refunded'],
]);

@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly payments: PaymentNews) {}

  /**
   * The provider delivers an event until it hears a 2xx, sometimes twice, and in any order. Its id is
   * the key, whoever delivers it. Only a success is kept: an event that comes before its payment is
   * refused with 404, and must not be refused for good. One that comes after a newer one is what
   * `PaymentNews` is there for: idempotency is about the same event, and knows nothing of another's age.
   */
  @Post('payments')
  @Public(true)
  @UseGuards(SignatureGuard)
  @Idempotent({ ...fromWebhook.stripe, atomic: true }) // this provider's events have their id where Stripe's have it
  @HttpCode(200)
  async onEvent(@Body() { id, type, chargeId }: PaymentEventDto, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    const news = NEWS.get(type);
    if (news !== undefined) await this.payments.enter(execution.manager, chargeId, news);
    return { received: id };
  }
}
