import { BadGatewayException, Injectable, UnprocessableEntityException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import type { IdempotentExecution } from '../../lib/index.js';
import type { User } from '../auth/users.js';
import { PriceService } from '../supplier/price-service.js';
import type { ProductRowDto } from './import-products.dto.js';
import { Product } from './product.entity.js';

export interface ImportResult {
  readonly imported: number;
}

/** Small enough that little is lost when one fails, large enough that a thousand rows are no thousand commits. */
const BATCH_ROWS = 100;

@Injectable()
export class ImportsService {
  constructor(
    @InjectRepository(Product) private readonly products: Repository<Product>,
    private readonly supplier: PriceService,
  ) {}

  /**
   * Not one transaction but one for each batch: a failure in the middle leaves the batches before it.
   * A retry with the same key is given what has been recorded of them and goes on behind. The prices
   * are a step of their own, so that no transaction is open while the supplier thinks, and so that no
   * inquiry is billed twice.
   */
  async import(user: User, rows: readonly ProductRowDto[], execution: IdempotentExecution): Promise<ImportResult> {
    refuseRepeatedSkus(rows); // before anything is written
    let imported = 0;
    for (let first = 0; first < rows.length; first += BATCH_ROWS) {
      const batch = rows.slice(first, first + BATCH_ROWS);
      const number = first / BATCH_ROWS + 1;
      const prices = await execution.step(`prices ${number}`, ({ key }) => this.pricesOf(batch, key, imported));
      imported += await execution.transaction(`batch ${number}`, async (manager) => {
        const products = batch.map(({ sku, name }, index) => ({ userId: user.id, sku, name, price: prices[index] }));
        await manager.insert(Product, products);
        return products.length;
      });
    }
    return { imported };
  }

  list(user: User): Promise<Product[]> {
    return this.products.find({ where: { userId: user.id }, order: { createdAt: 'ASC', sku: 'ASC' } });
  }

  /** That the supplier is away is no result: it is thrown, not recorded, and the retry asks again. */
  private async pricesOf(batch: readonly ProductRowDto[], key: string, imported: number): Promise<readonly number[]> {
    const skus = batch.map(({ sku }) => sku);
    const quotation = await this.supplier.quote(key, skus);
    if (quotation.kind === 'quoted') return quotation.prices;
    throw new BadGatewayException(
      `The supplier's price service is not available. ${imported} rows are imported; send the same import again and it goes on behind them.`,
    );
  }
}

/** An answer like any other, and kept: the same rows will not become better. */
function refuseRepeatedSkus(rows: readonly ProductRowDto[]): void {
  const seen = new Set<string>();
  const repeated = rows.flatMap(({ sku }, index) => {
    if (seen.has(sku)) return [index + 1];
    seen.add(sku);
    return [];
  });
  if (repeated.length > 0) throw new UnprocessableEntityException(`Rows ${repeated.join(', ')} repeat the SKU of a row before them.`);
}
