import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { BadGatewayException, Controller, Get, Headers, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { Idempotent } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { Stage } from './support/stage.js';
import { send } from './support/wire.js';

const shared = bench();
const stage = new Stage();

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  pay(): object {
    return { paid: true };
  }

  @Idempotent()
  @Post('failing')
  fail(): never {
    throw new BadGatewayException();
  }

  @Idempotent()
  @Post('slow')
  async slow(@Headers('idempotency-key') key: string): Promise<object> {
    await stage.stopAt(key);
    return {};
  }

  @Idempotent({ maxBodyBytes: 4 })
  @Post('large')
  large(): object {
    return { larger: 'than four bytes' };
  }

  @Get('safe')
  safe(): object {
    return {};
  }
}

describe.each(PLATFORMS)('what a request costs Postgres on %s', (platform) => {
  let proxy: TcpProxy;
  let app: RunningApp;

  beforeAll(async () => {
    proxy = await startTcpProxy(shared.database().url);
    app = await shared.start(platform, { controllers: [Payments], options: { pool: new Pool({ connectionString: proxy.url }) } });
  });
  afterEach(() => stage.openAll());
  afterAll(() => app.close().then(() => proxy.close()));

  /** Everything that went over the line meanwhile, the driver's own statements and transactions included. */
  async function statementsOf(...requests: (() => Promise<unknown>)[]): Promise<string[]> {
    const before = proxy.statements.length;
    for (const request of requests) await request();
    return proxy.statements.slice(before);
  }

  const pay = (path: string, key?: string, body: object = {}) => send(`${app.url}/${path}`, { ...(key !== undefined && { key }), body });

  it('two statements for a first request', async () => {
    expect(await statementsOf(() => pay('payments', newKey()))).toEqual(['idempotency_claim', 'idempotency_complete']);
  });

  it('one statement for a replay', async () => {
    const key = newKey();
    await pay('payments', key);
    const twice = [() => pay('payments', key), () => pay('payments', key)];
    expect(await statementsOf(...twice)).toEqual(['idempotency_claim', 'idempotency_claim']);
  });

  it('two statements for an outcome that is not kept, or that can’t be', async () => {
    expect(await statementsOf(() => pay('failing', newKey()))).toEqual(['idempotency_claim', 'idempotency_release']);
    expect(await statementsOf(() => pay('large', newKey()))).toEqual(['idempotency_claim', 'idempotency_seal']);
  });

  it('one statement for a request that is refused', async () => {
    const key = newKey();
    await pay('payments', key);
    expect(await statementsOf(() => pay('payments', key, { other: true }))).toEqual(['idempotency_claim']);
    const running = newKey();
    const slow = pay('slow', running);
    await stage.reached(running);
    expect(await statementsOf(() => pay('slow', running))).toEqual(['idempotency_claim']);
    stage.open(running);
    await slow;
  });

  it('one more for a lost execution that is taken over', async () => {
    const key = newKey();
    await pay('payments', key);
    await shared.alter(
      key,
      `state = 0, status = null, headers = null, body = null, completed_at = null, expires_at = null, locked_until = statement_timestamp() - interval '1 second'`,
    );
    expect(await statementsOf(() => pay('payments', key))).toEqual(['idempotency_claim', 'idempotency_take_over', 'idempotency_complete']);
  });

  it('one more for an expired record that was not reaped yet', async () => {
    const key = newKey();
    await pay('payments', key);
    await shared.alter(key, `expires_at = statement_timestamp() - interval '1 second'`);
    expect(await statementsOf(() => pay('payments', key))).toEqual([
      'idempotency_claim',
      'idempotency_take_expired',
      'idempotency_complete',
    ]);
  });

  it('nothing for a request without a key, or whose key is no key, or of a handler that is not idempotent', async () => {
    const safe = () => send(`${app.url}/safe`, { method: 'GET', key: newKey() });
    expect(
      await statementsOf(
        () => pay('payments'),
        () => pay('payments', 'a, b'),
        safe,
      ),
    ).toEqual([]);
  });
});
