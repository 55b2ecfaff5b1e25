import { Body, Controller, Get, Put } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { Profile } from '../profile/profile.entity.js';
import { ReplaceProfileDto } from '../profile/replace-profile.dto.js';

@Controller('unprotected/profile')
export class UnprotectedProfileController {
  constructor(private readonly dataSource: DataSource) {}

  @Get()
  read(@CurrentUser() { id }: User): Promise<Profile> {
    return this.dataSource.manager.findOneByOrFail(Profile, { userId: id });
  }

  /** The last one wins, and what the one before has written is gone, without a word to anybody. */
  @Put()
  @SkipIdempotency()
  async replace(@CurrentUser() { id }: User, @Body() { name, address }: ReplaceProfileDto): Promise<Profile> {
    await this.dataSource.manager.update(Profile, { userId: id }, { name, address });
    return this.dataSource.manager.findOneByOrFail(Profile, { userId: id });
  }
}
