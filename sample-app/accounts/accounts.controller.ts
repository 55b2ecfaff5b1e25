import { Controller, Get } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { Account } from './account.entity.js';

@Controller('accounts')
export class AccountsController {
  constructor(@InjectRepository(Account) private readonly accounts: Repository<Account>) {}

  @Get()
  list(@CurrentUser() user: User): Promise<Account[]> {
    return this.accounts.find({ where: { userId: user.id }, order: { id: 'ASC' } });
  }
}
