import { Body, Controller, Get, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { OUTSIDE } from '../outside.js';
import { PayOutDto } from './pay-out.dto.js';
import { ProviderCall } from './provider-call.entity.js';
import { ProviderWebhooks } from './provider-webhooks.js';
import type { Delivery } from './provider-webhooks.js';

/** A look into the provider's book, where a double charge would show, and a button that makes it pay out. */
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
  async payOut(@Body() { description }: PayOutDto): Promise<Delivery[]> {
    const deliveries: Delivery[] = [];
    for (const charge of await this.calls.findBy({ description, outcome: 'charged' })) {
      deliveries.push(await this.webhooks.deliverSettled(charge), await this.webhooks.deliverSettled(charge));
    }
    return deliveries;
  }
}
