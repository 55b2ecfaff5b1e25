import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { newKey } from './support/bench.js';
import { send } from './support/wire.js';

jest.setTimeout(60_000); // a process is started

describe('the sample shop, watched', () => {
  let database: TestDatabase;
  let shop: AppProcess;

  beforeAll(async () => {
    database = await createTestDatabase();
    shop = await startAppProcess('sample-app/main.ts', { DATABASE_URL: database.url, PORT: '0', PROVIDER_DELAY_MS: '0' });
  });

  afterAll(async () => {
    shop.kill('SIGTERM');
    await shop.exited;
    await database.drop();
  });

  it('tells Prometheus of a payment, its replay and a refusal, and of no key', async () => {
    const key = newKey();
    const pay = (amount: number) =>
      send(`${shop.url}/payments`, {
        key,
        headers: { authorization: 'Bearer alice-token' },
        body: { amount, card: 'tok_visa', description: 'A lamp' },
      });
    await pay(4200);
    await pay(4200);
    await pay(9900);
    const { status, headers, text } = await send(`${shop.url}/metrics`, { method: 'GET' });
    expect([status, headers['content-type']]).toEqual([200, ['text/plain; version=0.0.4; charset=utf-8']]);
    const handler = 'idempotency_handler="PaymentsController.create"';
    expect(text.split('\n')).toEqual(
      expect.arrayContaining([
        '# TYPE idempotency_requests_total counter',
        `idempotency_requests_total{${handler},idempotency_outcome="claimed"} 1`,
        `idempotency_requests_total{${handler},idempotency_outcome="replayed"} 1`,
        `idempotency_requests_total{${handler},idempotency_outcome="rejected",error_type="IDEMPOTENCY_KEY_REUSED"} 1`,
        `idempotency_executions_total{${handler},idempotency_outcome="completed"} 1`,
        '# TYPE idempotency_active_executions gauge',
        `idempotency_active_executions{${handler}} 0`,
        `idempotency_handler_duration_seconds_count{${handler},idempotency_outcome="completed"} 1`,
      ]),
    );
    expect(text).not.toContain(key);
    expect(text).not.toContain('alice');
  });
});
