import { Body, ConflictException, Controller, HttpCode, Inject, NotFoundException, Param, ParseUUIDPipe, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreateReservationDto } from '../reservations/create-reservation.dto.js';
import { Reservation } from '../reservations/reservation.entity.js';
import { RESERVATION_TTL } from '../reservations/reservations.service.js';
import { StockItem } from '../reservations/stock-item.entity.js';

@Controller('unprotected/reservations')
export class UnprotectedReservationsController {
  constructor(
    private readonly dataSource: DataSource,
    @Inject(RESERVATION_TTL) private readonly ttl: string,
  ) {}

  /** It looks whether there is enough, and takes it a moment later. Who looks in between finds the same. */
  @Post()
  @SkipIdempotency()
  async reserve(@CurrentUser() user: User, @Body() { item, quantity }: CreateReservationDto): Promise<Reservation> {
    const { manager } = this.dataSource;
    const stock = await manager.findOneBy(StockItem, { item });
    if (stock === null || stock.available < quantity) throw new ConflictException(`There is not enough of "${item}".`);
    await manager.update(StockItem, { item }, { available: stock.available - quantity });
    const { identifiers } = await manager
      .createQueryBuilder()
      .insert()
      .into(Reservation)
      .values({ userId: user.id, item, quantity, expiresAt: () => 'statement_timestamp() + cast(:ttl as interval)' })
      .setParameter('ttl', this.ttl)
      .execute();
    return this.find(user, String(identifiers[0]?.['reference']));
  }

  /** Whatever it was before, it is committed now. */
  @Post(':reference/commit')
  @SkipIdempotency()
  @HttpCode(200)
  async commit(@CurrentUser() user: User, @Param('reference', ParseUUIDPipe) reference: string): Promise<Reservation> {
    await this.find(user, reference);
    await this.dataSource.manager.update(Reservation, { reference }, { state: 'committed' });
    return this.find(user, reference);
  }

  /** Who cancels twice gives the stock back twice. */
  @Post(':reference/cancel')
  @SkipIdempotency()
  @HttpCode(200)
  async cancel(@CurrentUser() user: User, @Param('reference', ParseUUIDPipe) reference: string): Promise<Reservation> {
    const { item, quantity } = await this.find(user, reference);
    await this.dataSource.manager.increment(StockItem, { item }, 'available', quantity);
    await this.dataSource.manager.update(Reservation, { reference }, { state: 'cancelled' });
    return this.find(user, reference);
  }

  private async find({ id }: User, reference: string): Promise<Reservation> {
    const found = await this.dataSource.manager.findOneBy(Reservation, { reference, userId: id });
    if (found === null) throw new NotFoundException('You have no such reservation.');
    return found;
  }
}
