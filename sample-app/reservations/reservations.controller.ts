import { Body, Controller, Get, HttpStatus, Param, ParseUUIDPipe, Post, Res } from '@nestjs/common';
import type { Response } from 'express';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution, IdempotentOptions } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreateReservationDto } from './create-reservation.dto.js';
import type { Reservation } from './reservation.entity.js';
import { ReservationsService } from './reservations.service.js';
import type { Decision } from './reservations.service.js';

/**
 * A decision needs no key from the client: the reference says which one it is. Its answers may be kept,
 * since each of them is true for good. A second click waits for the first one's answer.
 */
const BY_REFERENCE: IdempotentOptions = { keyFrom: { param: 'reference' }, required: true, atomic: true, onDuplicate: 'wait' };

@Controller('reservations')
export class ReservationsController {
  constructor(private readonly reservations: ReservationsService) {}

  @Post()
  @Idempotent({ required: true, atomic: true })
  reserve(
    @CurrentUser() user: User,
    @Body() wanted: CreateReservationDto,
    @CurrentExecution() { manager }: IdempotentExecution,
  ): Promise<Reservation> {
    return this.reservations.reserve(manager, user, wanted);
  }

  @Post(':reference/commit')
  @Idempotent(BY_REFERENCE)
  async commit(
    @CurrentUser() user: User,
    @Param('reference', ParseUUIDPipe) reference: string,
    @CurrentExecution() { manager }: IdempotentExecution,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Reservation> {
    const reservation = await this.reservations.decide(manager, user, reference, 'committed');
    response.status(statusOf(reservation, 'committed'));
    return reservation;
  }

  @Post(':reference/cancel')
  @Idempotent(BY_REFERENCE)
  async cancel(
    @CurrentUser() user: User,
    @Param('reference', ParseUUIDPipe) reference: string,
    @CurrentExecution() { manager }: IdempotentExecution,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Reservation> {
    const reservation = await this.reservations.decide(manager, user, reference, 'cancelled');
    response.status(statusOf(reservation, 'cancelled'));
    return reservation;
  }

  @Get()
  list(@CurrentUser() user: User): Promise<Reservation[]> {
    return this.reservations.list(user);
  }
}

/** Set and not thrown: an error would roll back, and a reservation that is found expired has just given its stock back. */
function statusOf({ state }: Reservation, decision: Decision): HttpStatus {
  if (state === decision) return HttpStatus.OK;
  return state === 'expired' ? HttpStatus.GONE : HttpStatus.CONFLICT;
}
