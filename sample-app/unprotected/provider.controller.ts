import { Body, Controller, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { OUTSIDE } from '../outside.js';
import { ChargesDto } from '../provider/charges.dto.js';
import { ProviderCall } from '../provider/provider-call.entity.js';
import { ProviderWebhooks } from '../provider/provider-webhooks.js';
import type { Delivery } from '../provider/provider-webhooks.js';

const TO = '/unprotected/webhooks/payments';

/** The provider is no other one; it delivers to the shop as it was. */
@Controller('unprotected/provider')
export class UnprotectedProviderController {
  constructor(
    @InjectRepository(ProviderCall, OUTSIDE) private readonly calls: Repository<ProviderCall>,
    private readonly webhooks: ProviderWebhooks,
  ) {}

  @Post('payouts')
  @SkipIdempotency()
  async payOut(@Body() { description }: ChargesDto): Promise<Delivery[]> {
    const deliveries: Delivery[] = [];
    for (const charge of await this.charged(description)) {
      deliveries.push(await this.webhooks.deliver('settled', charge, TO), await this.webhooks.deliver('settled', charge, TO));
    }
    return deliveries;
  }

  @Post('refunds')
  @SkipIdempotency()
  async refund(@Body() { description }: ChargesDto): Promise<Delivery[]> {
    const deliveries: Delivery[] = [];
    for (const charge of await this.charged(description)) {
      deliveries.push(await this.webhooks.deliver('refunded', charge, TO), await this.webhooks.deliver('settled', charge, TO));
    }
    return deliveries;
  }

  private charged(description: string): Promise<ProviderCall[]> {
    return this.calls.findBy({ description, outcome: 'charged' });
  }
}
