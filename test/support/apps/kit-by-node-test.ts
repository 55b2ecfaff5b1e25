/** The testing kit under another runner than jest: `node --test` on this file. */
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { CurrentExecution, Idempotent } from '../../../lib/index.js';
import type { IdempotentExecution } from '../../../lib/index.js';
import {
  expectIdempotent,
  IdempotencyTestingModule,
  idempotencyStoreContract,
  InMemoryIdempotencyStore,
} from '../../../lib/testing/index.js';

const sent = new Set<string>();
let runs = 0;

@Controller()
class Mails {
  @Idempotent()
  @Post('mails')
  send(@CurrentExecution() { step }: IdempotentExecution): Promise<number> {
    runs += 1;
    return step('send', ({ key }) => sent.add(key).size);
  }
}

@Module({ imports: [IdempotencyTestingModule.forRoot()], controllers: [Mails] })
class AppModule {}

void describe('the store’s contract', () => {
  for (const { name, run } of idempotencyStoreContract(() => new InMemoryIdempotencyStore())) void it(name, run);
});

void describe('expectIdempotent', () => {
  void it('judges the effects of a handler', async () => {
    const app = await NestFactory.create(AppModule, { logger: false });
    try {
      await expectIdempotent(app, { url: '/mails' }, { effects: () => sent.size });
      await assert.rejects(expectIdempotent(app, { url: '/mails' }, { effects: () => runs }), assert.AssertionError);
    } finally {
      await app.close();
    }
  });
});
