import { ConflictException, Inject, Injectable, NotFoundException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Raw } from 'typeorm';
import type { EntityManager, Repository } from 'typeorm';
import { compareAndSet } from '../../lib/index.js';
import type { User } from '../auth/users.js';
import type { CreateReservationDto } from './create-reservation.dto.js';
import { Reservation } from './reservation.entity.js';
import { Stock } from './stock.js';

/** How long a reservation stands, as Postgres reads an interval: `10m`. */
export const RESERVATION_TTL = Symbol('RESERVATION_TTL');

/** What a customer can decide. */
export type Decision = 'committed' | 'cancelled';

@Injectable()
export class ReservationsService {
  constructor(
    @InjectRepository(Reservation) private readonly reservations: Repository<Reservation>,
    private readonly stock: Stock,
    @Inject(RESERVATION_TTL) private readonly ttl: string,
  ) {}

  /** What is reserved is off the shelf, until its customer decides, or its time is over. */
  async reserve(manager: EntityManager, user: User, wanted: CreateReservationDto): Promise<Reservation> {
    const { item, quantity } = wanted;
    await this.stock.giveBackOverdue(manager, item);
    if (!(await this.stock.take(manager, wanted))) throw new ConflictException(`There is not enough of "${item}".`);
    const { identifiers } = await manager
      .createQueryBuilder()
      .insert()
      .into(Reservation)
      .values({ userId: user.id, item, quantity, expiresAt: () => 'statement_timestamp() + cast(:ttl as interval)' })
      .setParameter('ttl', this.ttl)
      .execute();
    return manager.findOneByOrFail(Reservation, { reference: identifiers[0]?.['reference'] as string });
  }

  /**
   * The state is the judge: it leaves *reserved* once. Of two who decide at the same time, or of the
   * customer and the clock, one changes it, and sees to the stock; the other one finds it changed.
   *
   * @returns what has become of the reservation, by this decision or an earlier one
   */
  async decide(manager: EntityManager, user: User, reference: string, decision: Decision): Promise<Reservation> {
    const reservation = await this.find(manager, user, reference);
    const overdue = { reference, expiresAt: Raw((expiresAt) => `${expiresAt} <= statement_timestamp()`) };
    const reserved = { state: 'reserved' } as const;
    const isOver = await compareAndSet(manager, Reservation, overdue, reserved, { state: 'expired' });
    const isDecided = !isOver && (await compareAndSet(manager, Reservation, { reference }, reserved, { state: decision }));
    if (isOver || (isDecided && decision === 'cancelled')) await this.stock.giveBack(manager, reservation);
    return this.find(manager, user, reference);
  }

  async list(user: User): Promise<Reservation[]> {
    await this.stock.seeToOverdue();
    return this.reservations.find({ where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }

  private async find(manager: EntityManager, user: User, reference: string): Promise<Reservation> {
    const found = await manager.findOneBy(Reservation, { reference, userId: user.id });
    if (found === null) throw new NotFoundException('You have no such reservation.');
    return found;
  }
}
