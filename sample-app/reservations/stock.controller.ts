import { Controller, Get } from '@nestjs/common';
import type { StockItem } from './stock-item.entity.js';
import { Stock } from './stock.js';

@Controller('stock')
export class StockController {
  constructor(private readonly stock: Stock) {}

  @Get()
  list(): Promise<StockItem[]> {
    return this.stock.list();
  }
}
