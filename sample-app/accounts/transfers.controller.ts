import { Body, Controller, Get, HttpStatus, Post, Res } from '@nestjs/common';
import type { Response } from 'express';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreateTransferDto } from './create-transfer.dto.js';
import type { Transfer } from './transfer.entity.js';
import { TransfersService } from './transfers.service.js';

@Controller('transfers')
export class TransfersController {
  constructor(private readonly transfers: TransfersService) {}

  /** 201 when the money has moved, 200 with the same transfer whenever it comes again. Its id tells a retry, so it needs no key beside that. */
  @Post()
  @SkipIdempotency()
  async create(
    @CurrentUser() user: User,
    @Body() wanted: CreateTransferDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Transfer> {
    const { transfer, isNew } = await this.transfers.transfer(user, wanted);
    response.status(isNew ? HttpStatus.CREATED : HttpStatus.OK);
    return transfer;
  }

  @Get()
  list(@CurrentUser() user: User): Promise<Transfer[]> {
    return this.transfers.list(user);
  }
}
