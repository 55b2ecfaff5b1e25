/** The shop as its migrations left it, for a visitor who wants to begin again. */
import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { IdempotencyService } from '../../lib/index.js';
import { DEMO_USERS } from '../auth/users.js';

/** What refers to something comes before it. A profile's version never goes back: an old ETag must not fit again. */
const EMPTY_AND_FILL = `
  delete from ledger_entries;
  delete from payments;
  delete from orders;
  delete from pending_mails;
  delete from contact_messages;
  delete from transfers;
  delete from reservations;
  delete from products;
  delete from provider_charges;
  delete from received_mails;
  delete from supplier_inquiries;
  update accounts set balance = 100000;
  update stock set available = case item when 'A chair' then 40 when 'A table' then 10 else 1 end;
  update profiles set name = initcap(user_id), address = '', version = version + 1;
`;

@Injectable()
export class FreshData {
  constructor(
    @InjectDataSource() private readonly dataSource: DataSource,
    private readonly idempotency: IdempotencyService,
  ) {}

  /** The keys go too, since their answers tell of payments that are no more. */
  async bring(): Promise<void> {
    await this.dataSource.query(EMPTY_AND_FILL);
    for (const { id } of DEMO_USERS.values()) await this.idempotency.forgetScope(`id=${id}`);
  }
}
