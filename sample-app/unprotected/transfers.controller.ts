import { randomUUID } from 'node:crypto';
import { Body, Controller, HttpException, HttpStatus, NotFoundException, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { Account } from '../accounts/account.entity.js';
import { CreateTransferDto } from '../accounts/create-transfer.dto.js';
import { Transfer } from '../accounts/transfer.entity.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';

@Controller('unprotected/transfers')
export class UnprotectedTransfersController {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * The id is made here, where a retry gets a new one. And the balances are computed from what they
   * were a moment ago: of two transfers at once, one may undo what the other has done.
   */
  @Post()
  @SkipIdempotency()
  async create(@CurrentUser() user: User, @Body() { from, to, amount }: CreateTransferDto): Promise<Transfer> {
    const { manager } = this.dataSource;
    const [source, target] = await Promise.all([
      manager.findOneBy(Account, { id: from, userId: user.id }),
      manager.findOneBy(Account, { id: to }),
    ]);
    if (source === null || target === null) throw new NotFoundException('There is no such account.');
    if (source.balance < amount) throw new HttpException('There is not enough money in the account.', HttpStatus.PAYMENT_REQUIRED);
    await manager.update(Account, { id: from }, { balance: source.balance - amount });
    await manager.update(Account, { id: to }, { balance: target.balance + amount });
    return manager.save(Transfer, { transactionId: randomUUID(), userId: user.id, from, to, amount });
  }
}
