/**
 * The supplier of what the shop imports, who says what it costs and bills every inquiry. An inquiry
 * that repeats the key of an earlier one gets the same prices, and is not billed.
 *
 * SKUs with a meaning, so that failures can be tried out:
 *   SLOW…       the answer takes ten seconds: time enough to kill the shop in the middle of an import
 *   DOWN…       the service is down
 *   DOWN-ONCE…  the service is down for the first inquiry with a key, and up again for the next
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { OUTSIDE } from '../outside.js';
import { PriceInquiry } from './price-inquiry.entity.js';
import type { InquiryOutcome } from './price-inquiry.entity.js';

/** In cents, in the order of the SKUs. */
export type Quotation = { readonly kind: 'quoted'; readonly prices: readonly number[] } | { readonly kind: 'unavailable' };

const SLOW_MS = 10_000;

@Injectable()
export class PriceService {
  constructor(@InjectRepository(PriceInquiry, OUTSIDE) private readonly inquiries: Repository<PriceInquiry>) {}

  async quote(idempotencyKey: string, skus: string[]): Promise<Quotation> {
    if (await this.isDown(idempotencyKey, skus)) {
      await this.record(idempotencyKey, skus, 'unavailable');
      return { kind: 'unavailable' };
    }
    const isNew = await this.record(idempotencyKey, skus, 'quoted');
    if (!isNew) await this.record(idempotencyKey, skus, 'repeated');
    // It is billed, and the answer is on its way.
    if (isNew && skus.some((sku) => sku.startsWith('SLOW'))) await pause(SLOW_MS);
    return { kind: 'quoted', prices: skus.map(priceOf) };
  }

  private async isDown(idempotencyKey: string, skus: readonly string[]): Promise<boolean> {
    if (!skus.some((sku) => sku.startsWith('DOWN'))) return false;
    const forOnce = skus.every((sku) => sku.startsWith('DOWN-ONCE') || !sku.startsWith('DOWN'));
    return !forOnce || !(await this.inquiries.existsBy({ idempotencyKey }));
  }

  /** `false` if prices were quoted under this key already, which a unique index sees to. */
  private async record(idempotencyKey: string, skus: string[], outcome: InquiryOutcome): Promise<boolean> {
    const inserted = await this.inquiries.createQueryBuilder().insert().values({ idempotencyKey, skus, outcome }).orIgnore().execute();
    return (inserted.raw as object[]).length === 1;
  }
}

/** A price like any other: 1 to 99, and the same for the same SKU whenever it is asked for. */
function priceOf(sku: string): number {
  return 100 * (1 + (Buffer.from(sku).reduce((sum, byte) => sum + byte, 0) % 99));
}
