import { BadGatewayException, Body, Controller, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { ImportProductsDto } from '../imports/import-products.dto.js';
import type { ImportResult } from '../imports/imports.service.js';
import { Product } from '../imports/product.entity.js';
import { PriceService } from '../supplier/price-service.js';

const BATCH_ROWS = 100;

@Controller('unprotected/imports')
export class UnprotectedImportsController {
  constructor(
    private readonly dataSource: DataSource,
    private readonly supplier: PriceService,
  ) {}

  /** A failure in the middle leaves what was imported before it, and a retry begins at the beginning. */
  @Post()
  @SkipIdempotency()
  async import(@CurrentUser() user: User, @Body() { products }: ImportProductsDto): Promise<ImportResult> {
    for (let first = 0; first < products.length; first += BATCH_ROWS) {
      const batch = products.slice(first, first + BATCH_ROWS);
      const skus = batch.map(({ sku }) => sku);
      const quotation = await this.supplier.quote(`${user.id} ${skus.join(' ')}`, skus);
      if (quotation.kind === 'unavailable') throw new BadGatewayException("The supplier's price service is not available.");
      const rows = batch.map(({ sku, name }, index) => ({ userId: user.id, sku, name, price: quotation.prices[index] ?? 0 }));
      await this.dataSource.manager.insert(Product, rows);
    }
    return { imported: products.length };
  }
}
