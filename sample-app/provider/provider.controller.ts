import { Body, Controller, Get, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { OUTSIDE } from '../outside.js';
import { ChargesDto } from './charges.dto.js';
import { ProviderCall } from './provider-call.entity.js';
import { ProviderWebhooks } from './provider-webhooks.js';
import type { Delivery } from './provider-webhooks.js';

/** A look into the provider's book, where a double charge would show, and buttons that make it tell the shop something. */
@Controller('provider')
export class ProviderController {
  constructor(
    @InjectRepository(ProviderCall, OUTSIDE) private readonly calls: Repository<ProviderCall>,
    private readonly webhooks: ProviderWebhooks,
  ) {}

  @Get('charges')
  list(): Promise<ProviderCall[]> {
    return this.calls.find({ order: { calledAt: 'ASC' } });
  }

  /** Each event is delivered twice, as happens when the first 200 is lost on its way. */
  @Post('payouts')
  @SkipIdempotency() // pressed again it delivers the same events again, which is what it is there for
  async payOut(@Body() { description }: ChargesDto): Promise<Delivery[]> {
    const deliveries: Delivery[] = [];
    for (const charge of await this.charged(description)) {
      deliveries.push(await this.webhooks.deliver('settled', charge), await this.webhooks.deliver('settled', charge));
    }
    return deliveries;
  }

  /** The refund is told first, and that the charge was paid out before it only afterwards. */
  @Post('refunds')
  @SkipIdempotency() // as above
  async refund(@Body() { description }: ChargesDto): Promise<Delivery[]> {
    const deliveries: Delivery[] = [];
    for (const charge of await this.charged(description)) {
      deliveries.push(await this.webhooks.deliver('refunded', charge), await this.webhooks.deliver('settled', charge));
    }
    return deliveries;
  }

  private charged(description: string): Promise<ProviderCall[]> {
    return this.calls.findBy({ description, outcome: 'charged' });
  }
}
