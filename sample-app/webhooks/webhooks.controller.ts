import { Body, Controller, HttpCode, Post, UseGuards } from '@nestjs/common';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { Public } from '../auth/public.js';
import { PaymentsService } from '../payments/payments.service.js';
import { PaymentEventDto } from './payment-event.dto.js';
import { SignatureGuard } from './signature.guard.js';

@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly payments: PaymentsService) {}

  /**
   * The provider delivers an event until it hears a 2xx, sometimes twice, and in any order. Its id is
   * the key, whoever delivers it. Only a success is kept: an event that comes before its payment is
   * refused with 404, and must not be refused for good.
   */
  @Post('payments')
  @Public(true)
  @UseGuards(SignatureGuard)
  @Idempotent({
    keyFrom: { body: 'id' },
    required: true,
    scope: false,
    ttl: '30d', // for longer than the provider tries
    storeIf: (status) => status < 300,
    atomic: true,
  })
  @HttpCode(200)
  async onEvent(@Body() { id, type, chargeId }: PaymentEventDto, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    if (type === 'charge.settled') await this.payments.settle(chargeId, execution);
    return { received: id };
  }
}
