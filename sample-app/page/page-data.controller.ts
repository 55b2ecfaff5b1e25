import { Controller, Get, Header, HttpCode, Post, Query } from '@nestjs/common';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { FreshData } from './fresh-data.js';
import { PageStateDto } from './page-state.dto.js';
import { PageStateReader } from './page-state.js';
import type { PageState } from './page-state.js';

@Controller('page')
export class PageDataController {
  constructor(
    private readonly state: PageStateReader,
    private readonly freshData: FreshData,
  ) {}

  @Get('state')
  @Header('Cache-Control', 'no-store')
  read(@CurrentUser() user: User, @Query() { story, key }: PageStateDto): Promise<PageState> {
    return this.state.read(story, user, key);
  }

  @Post('fresh-data')
  @SkipIdempotency() // to begin again twice is to begin again
  @HttpCode(204)
  async startAfresh(): Promise<void> {
    await this.freshData.bring();
  }
}
