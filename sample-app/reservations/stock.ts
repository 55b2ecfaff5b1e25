/** What is on the shelf. Its rows are locked after a reservation's and never before, so that nobody waits in a circle. */
import { Injectable } from '@nestjs/common';
import { InjectEntityManager } from '@nestjs/typeorm';
import { MoreThanOrEqual } from 'typeorm';
import type { EntityManager } from 'typeorm';
import { StockItem } from './stock-item.entity.js';

interface Quantity {
  readonly item: string;
  readonly quantity: number;
}

@Injectable()
export class Stock {
  constructor(@InjectEntityManager() private readonly manager: EntityManager) {}

  /**
   * One conditional statement, and no loop around it: it does not matter whether the stock is as it
   * was when somebody looked, only whether enough of it is left. That it takes from what is there is
   * safe because it commits with the answer: no retry does it again.
   *
   * @returns whether there was enough
   */
  async take(manager: EntityManager, { item, quantity }: Quantity): Promise<boolean> {
    const enough = { item, available: MoreThanOrEqual(quantity) };
    const { affected } = await manager.decrement(StockItem, enough, 'available', quantity);
    return affected === 1;
  }

  async giveBack(manager: EntityManager, { item, quantity }: Quantity): Promise<void> {
    await manager.increment(StockItem, { item }, 'available', quantity);
  }

  /**
   * Ends what is overdue of an item and gives it back, in one statement, so that no reservation gives
   * back twice. One that is locked is being decided right now, and whoever does so gives it back.
   */
  async giveBackOverdue(manager: EntityManager, item: string): Promise<void> {
    await manager.query(
      `with overdue as (
         select reference from reservations
          where item = $1 and state = 'reserved' and expires_at <= statement_timestamp()
            for update skip locked
       ), expired as (
         update reservations set state = 'expired' where reference in (select reference from overdue)
         returning quantity
       )
       update stock set available = available + (select sum(quantity) from expired)
        where item = $1 and exists (select from expired)`,
      [item],
    );
  }

  /** Nobody waits for the overdue ones with a timer: they are seen to when somebody wants the item, or looks. */
  async list(): Promise<StockItem[]> {
    await this.seeToOverdue();
    return this.manager.find(StockItem, { order: { item: 'ASC' } });
  }

  /** Item by item: a statement that locked several could meet another one that locks them the other way round. */
  async seeToOverdue(): Promise<void> {
    const overdue = await this.manager.query<{ item: string }[]>(
      `select distinct item from reservations where state = 'reserved' and expires_at <= statement_timestamp()`,
    );
    for (const { item } of overdue) await this.giveBackOverdue(this.manager, item);
  }
}
