import { Body, Controller, Get, Put } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { ExpectedVersion, RequireIfMatch, VersionETag, updateVersioned } from '../../lib/index.js';
import type { VersionCondition } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { Profile } from './profile.entity.js';
import { ReplaceProfileDto } from './replace-profile.dto.js';

@Controller('profile')
export class ProfileController {
  constructor(@InjectRepository(Profile) private readonly profiles: Repository<Profile>) {}

  @Get()
  @VersionETag((profile: Profile) => profile.version)
  read(@CurrentUser() user: User): Promise<Profile> {
    return this.profiles.findOneByOrFail({ userId: user.id });
  }

  /**
   * A key would tell a retry from a new request. Here two requests that are both new must be told from
   * each other: of two editors who started from the same profile, the second one is refused, reads what
   * the first one has written, and edits that. The version in If-Match also keeps a retry from being
   * carried out twice.
   */
  @Put()
  @RequireIfMatch()
  @VersionETag((profile: Profile) => profile.version)
  async replace(
    @CurrentUser() user: User,
    @Body() { name, address }: ReplaceProfileDto,
    @ExpectedVersion() expected: VersionCondition,
  ): Promise<Profile> {
    const whose = { userId: user.id };
    const version = await updateVersioned(this.profiles.manager, Profile, whose, expected, { name, address });
    return { ...whose, name, address, version };
  }
}
