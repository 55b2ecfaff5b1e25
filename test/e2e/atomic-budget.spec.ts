/** Which statements an atomic request sends to Postgres, and in how many trips. */
import { describe, expect, it } from '@jest/globals';
import { BadGatewayException, ConflictException, Controller, Headers, Inject, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { DataSource } from 'typeorm';
import { CurrentExecution, IdempotencyService, Idempotent } from '../../lib/index.js';
import type { IdempotencyModuleOptions, IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { send } from './support/wire.js';

const shared = bench();

@Controller()
class Payments {
  constructor(@Inject(IdempotencyService) private readonly idempotency: IdempotencyService) {}

  @Idempotent({ atomic: true })
  @Post('by-client')
  async byClient(@CurrentExecution() { client }: IdempotentExecution): Promise<object> {
    await client.query('select 1');
    return { paid: true };
  }

  @Idempotent({ atomic: true })
  @Post('by-manager')
  async byManager(@CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    await manager.query('select 1');
    return { paid: true };
  }

  @Idempotent({ atomic: true })
  @Post('with-values-by-client')
  async withValuesByClient(@CurrentExecution() { client }: IdempotentExecution): Promise<object> {
    await client.query('select $1::int', [1]);
    return { paid: true };
  }

  @Idempotent({ atomic: true })
  @Post('with-values-by-manager')
  async withValuesByManager(@CurrentExecution() { manager }: IdempotentExecution): Promise<object> {
    await manager.query('select $1::int', [1]);
    return { paid: true };
  }

  @Idempotent({ atomic: true })
  @Post('after-something-else')
  async afterSomethingElse(@CurrentExecution() { client }: IdempotentExecution): Promise<object> {
    await new Promise((resolve) => setImmediate(resolve)); // as a call to somebody else takes
    await client.query('select $1::int', [1]);
    return { paid: true };
  }

  @Idempotent({ atomic: { retries: 1 } })
  @Post('with-retries')
  withRetries(): object {
    return { paid: true };
  }

  @Idempotent({ atomic: { isolation: 'SERIALIZABLE' }, maxBodyBytes: 4 })
  @Post('large')
  large(): object {
    return { larger: 'than four bytes' };
  }

  @Idempotent({ atomic: true })
  @Post('conflict')
  conflict(): never {
    throw new ConflictException();
  }

  @Idempotent({ atomic: true })
  @Post('failing')
  fail(): never {
    throw new BadGatewayException();
  }

  @Idempotent({ atomic: true })
  @Post('with-another')
  async withAnother(@Headers('idempotency-key') key: string): Promise<object> {
    await this.idempotency.run({ operation: 'mail', key }, () => ({ sent: true }));
    return {};
  }

  @Post('by-run')
  async byRun(@Headers('idempotency-key') key: string): Promise<object> {
    await this.idempotency.run({ operation: 'pay', key, atomic: true }, async ({ client }) => {
      await client.query('select $1::int', [1]);
      return {};
    });
    return {};
  }
}

const CLAIM = ['idempotency_claim_unflushed'];
const BEGIN = ['idempotency_begin', 'idempotency_hold_or_fail'];
const COMPLETE = ['idempotency_complete_or_fail', 'idempotency_commit'];

interface Visit {
  readonly by?: 'pool' | 'DataSource';
  readonly keyed?: boolean;
  readonly options?: IdempotencyModuleOptions;
}

describe.each(PLATFORMS)('what an atomic request costs Postgres on %s', (platform) => {
  /** The trips of one request, where there was another one before. */
  async function tripsOf(path: string, { by = 'pool', keyed = true, options }: Visit = {}): Promise<string[][]> {
    const proxy = await startTcpProxy(shared.database().url);
    const pool = new Pool({ connectionString: proxy.url, max: 1 });
    const dataSource = new DataSource({ type: 'postgres', url: proxy.url, poolSize: 1 });
    if (by === 'DataSource') await dataSource.initialize();
    const application = by === 'pool' ? { pool } : { pool: undefined, dataSource };
    try {
      return await shared.within(
        platform,
        { controllers: [Payments], options: { ...application, poolSize: 1, ...options } },
        async (app) => {
          const pay = () => send(`${app.url}/${path}`, { ...(keyed && { key: newKey() }), body: {} });
          await pay();
          const before = proxy.trips.length;
          await pay();
          return proxy.trips.slice(before).map((trip) => trip.map((statement) => statement.trim()));
        },
      );
    } finally {
      await Promise.all([pool.end(), by === 'DataSource' && dataSource.destroy()]);
      await proxy.close();
    }
  }

  it.each([
    ['pool', 'with-values-by-client'],
    ['DataSource', 'with-values-by-client'],
    ['DataSource', 'with-values-by-manager'],
  ] as const)(
    'no trip more than BEGIN … COMMIT by hand: the lock and the first statement ride with BEGIN, and the answer with COMMIT (%s, %s)',
    async (by, path) => {
      expect(await tripsOf(path, { by })).toEqual([CLAIM, [...BEGIN, 'select $1::int'], COMPLETE]);
    },
  );

  it.each([
    ['pool', 'by-client'],
    ['DataSource', 'by-client'],
    ['DataSource', 'by-manager'],
  ] as const)('one trip more for a first statement without values, which may be several (%s, %s)', async (by, path) => {
    expect(await tripsOf(path, { by })).toEqual([CLAIM, BEGIN, ['select 1'], COMPLETE]);
  });

  it('no trip more for a run that starts with a statement', async () => {
    expect(await tripsOf('by-run')).toEqual([CLAIM, [...BEGIN, 'select $1::int'], COMPLETE]);
  });

  it('one trip more where the handler turns to somebody else first', async () => {
    expect(await tripsOf('after-something-else')).toEqual([CLAIM, BEGIN, ['select $1::int'], COMPLETE]);
  });

  it('one trip more where the handler might be repeated', async () => {
    const probe = ['idempotency_check_constraints', 'idempotency_meet_doom'];
    expect(await tripsOf('with-retries')).toEqual([CLAIM, BEGIN, probe, COMPLETE]);
  });

  it('no trip more for an answer that can’t be replayed, or whose rows are not kept, or that is not kept itself', async () => {
    const begin = ['idempotency_begin_serializable', ...BEGIN.slice(1)];
    expect(await tripsOf('large')).toEqual([CLAIM, begin, ['idempotency_seal_or_fail', 'idempotency_commit']]);
    expect(await tripsOf('conflict')).toEqual([CLAIM, BEGIN, ['idempotency_roll_back', 'idempotency_complete']]);
    expect(await tripsOf('failing')).toEqual([CLAIM, BEGIN, ['idempotency_roll_back', 'idempotency_release']]);
  });

  it('two trips for an execution within it, beside its savepoint', async () => {
    expect(await tripsOf('with-another')).toEqual([
      CLAIM,
      BEGIN,
      ['idempotency_claim'],
      ['savepoint idempotency_1'],
      ['release savepoint idempotency_1'],
      ['idempotency_hold', 'idempotency_complete'],
      COMPLETE,
    ]);
  });

  it('nothing without a key but BEGIN and COMMIT', async () => {
    const begin = ['idempotency_begin', 'idempotency_idle_limit'];
    expect(await tripsOf('by-client', { keyed: false })).toEqual([begin, ['select 1'], ['idempotency_commit']]);
    expect(await tripsOf('with-values-by-client', { keyed: false })).toEqual([[...begin, 'select $1::int'], ['idempotency_commit']]);
  });

  it('the same trips where no statement may stay prepared', async () => {
    const options = { preparedStatements: false };
    expect((await tripsOf('with-values-by-client', { options })).map(({ length }) => length)).toEqual([1, 3, 2]);
  });
});
