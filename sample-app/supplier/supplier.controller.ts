import { Controller, Get } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { OUTSIDE } from '../outside.js';
import { PriceInquiry } from './price-inquiry.entity.js';

/** A look into the supplier's book, where an inquiry that is billed twice would show. */
@Controller('supplier')
export class SupplierController {
  constructor(@InjectRepository(PriceInquiry, OUTSIDE) private readonly inquiries: Repository<PriceInquiry>) {}

  @Get('inquiries')
  list(): Promise<PriceInquiry[]> {
    return this.inquiries.find({ order: { askedAt: 'ASC' } });
  }
}
