import { Controller, Get } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { ProviderCall } from './provider-call.entity.js';

/** A look into the provider's book, where a double charge would show. */
@Controller('provider')
export class ProviderController {
  constructor(@InjectRepository(ProviderCall) private readonly calls: Repository<ProviderCall>) {}

  @Get('charges')
  list(): Promise<ProviderCall[]> {
    return this.calls.find({ order: { calledAt: 'ASC' } });
  }
}
