/** The shop's own tests, as a customer would write them with the testing kit: its payment, on a real database. */
import { afterAll, beforeAll, describe, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { expectIdempotent } from '../../lib/testing/index.js';
import { AppModule } from '../../sample-app/app.module.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

jest.setTimeout(60_000); // a payment has some twenty points at which it is ended and tried again

let database: TestDatabase;
let shop: INestApplication;

beforeAll(async () => {
  database = await createTestDatabase();
  const settings = {
    databaseUrl: database.url,
    lockTtl: '60s',
    reservationTtl: '10m',
    providerDelayMs: 0,
    smtpUrl: undefined,
    webhookSecret: 'w'.repeat(32),
  };
  shop = await NestFactory.create(AppModule.with(settings), { logger: false, rawBody: true, abortOnError: false });
});

afterAll(async () => {
  await shop.close();
  await database.drop();
});

async function countOf(table: string, where = 'true'): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(`select count(*)::int as count from ${table} where ${where}`);
  return rows[0]!.count;
}

describe('POST /payments', () => {
  const request = {
    method: 'POST',
    url: '/payments',
    headers: { authorization: 'Bearer alice-token' },
    body: { amount: 4200, card: 'tok_visa', description: 'A lamp' },
  };

  it('takes a payment once, whatever becomes of its request, its process and its connections', async () => {
    const effects = async (): Promise<Record<string, number>> => ({
      orders: await countOf('orders'),
      payments: await countOf('payments'),
      ledger: await countOf('ledger_entries'),
      charges: await countOf('provider_charges', `outcome = 'charged'`),
    });
    await expectIdempotent(shop, request, { effects });
  });
});
