import { Module } from '@nestjs/common';
import type { MiddlewareConsumer, NestModule } from '@nestjs/common';
import { FreshData } from './fresh-data.js';
import { LoseAnswer } from './lose-answer.middleware.js';
import { PageDataController } from './page-data.controller.js';
import { PageFiles } from './page-files.js';
import { PageStateReader } from './page-state.js';
import { PageController } from './page.controller.js';

/** A page where a person clicks through the stories, and sees what happens in the database. */
@Module({
  controllers: [PageController, PageDataController],
  providers: [PageFiles, PageStateReader, FreshData],
})
export class PageModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(LoseAnswer).forRoutes('{*path}');
  }
}
