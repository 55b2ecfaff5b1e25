import { Body, Controller, Get, Post } from '@nestjs/common';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { ImportProductsDto } from './import-products.dto.js';
import { ImportsService } from './imports.service.js';
import type { ImportResult } from './imports.service.js';
import type { Product } from './product.entity.js';

@Controller()
export class ImportsController {
  constructor(private readonly imports: ImportsService) {}

  @Post('imports')
  @Idempotent({ required: true })
  import(
    @CurrentUser() user: User,
    @Body() { products }: ImportProductsDto,
    @CurrentExecution() execution: IdempotentExecution,
  ): Promise<ImportResult> {
    return this.imports.import(user, products, execution);
  }

  @Get('products')
  list(@CurrentUser() user: User): Promise<Product[]> {
    return this.imports.list(user);
  }
}
