import { Controller, Get } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { LedgerEntry } from './ledger-entry.entity.js';

/** A look into the shop's own books, where a payment that was entered twice would show. */
@Controller('ledger')
export class LedgerController {
  constructor(@InjectRepository(LedgerEntry) private readonly entries: Repository<LedgerEntry>) {}

  @Get()
  list(): Promise<LedgerEntry[]> {
    return this.entries.find({ order: { createdAt: 'ASC' } });
  }
}
