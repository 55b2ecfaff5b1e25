import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { BadGatewayException, Controller, Get, Headers, Post, UseGuards } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { setTimeout as pause } from 'node:timers/promises';
import { Pool } from 'pg';
import { Idempotent, IdempotencyService } from '../../lib/index.js';
import { HOT_READS } from '../../lib/engine/replay-memory.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const stage = new Stage();

/** Lets those of a storm in when all of them are there. */
class Gathering implements CanActivate {
  static readonly storms = new Map<string, ReturnType<typeof barrier>>();

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    await Gathering.storms.get(headers['idempotency-key'] ?? '')?.arrive();
    return true;
  }
}

@UseGuards(Gathering)
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

  @Idempotent({ onDuplicate: 'wait' })
  @Post('slow-and-waits')
  async waits(@Headers('idempotency-key') key: string): Promise<object> {
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
  });

  it('nothing for a request that is refused because its key is at work right here', async () => {
    const key = newKey();
    const slow = pay('slow', key);
    await stage.reached(key);
    const refusals: Answer[] = [];
    const refused = (body: object) => async () => void refusals.push(await pay('slow', key, body));
    expect(await statementsOf(refused({}), refused({ other: true }))).toEqual([]);
    expect(refusals.map((answer) => [codeOf(answer), field(answer, 'retry-after')])).toEqual([
      ['IDEMPOTENCY_KEY_IN_USE', '1'],
      ['IDEMPOTENCY_KEY_REUSED', undefined],
    ]);
    stage.open(key);
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

  describe.each([
    ['slow', 'IDEMPOTENCY_KEY_IN_USE'],
    ['slow-and-waits', 'replay'],
  ])('for a storm of a hundred with one key (%s)', (path, expected) => {
    const wordOf = (answer: Answer): unknown => (answer.status === 201 ? (isReplay(answer) ? 'replay' : 'run') : codeOf(answer));

    /** All at once, over all of these applications; what came over the line for it. */
    async function statementsOfStorm(handler: (() => Promise<void>) | undefined, ...urls: string[]): Promise<readonly string[]> {
      const before = proxy.statements.length;
      const key = newKey();
      Gathering.storms.set(key, barrier(100));
      let answered = 0;
      const storm = Array.from({ length: 100 }, async (_, i) => {
        const answer = await send(`${urls[i % urls.length]!}/${path}`, { key, body: {} });
        answered += 1;
        return wordOf(answer);
      });
      if (expected === 'IDEMPOTENCY_KEY_IN_USE') await until(() => answered === 99);
      await handler?.();
      stage.open(key);
      const words = await Promise.all(storm);
      expect([words.filter((word) => word === expected).length, words.filter((word) => word === 'run').length]).toEqual([99, 1]);
      return proxy.statements.slice(before);
    }

    it('in one process: two statements', async () => {
      expect(await statementsOfStorm(undefined, app.url)).toEqual(['idempotency_claim', 'idempotency_complete']);
    });

    const parts = () => ({ controllers: [Payments], options: { pool: new Pool({ connectionString: proxy.url }) } });
    const inThree = (work: (...urls: string[]) => Promise<void>) =>
      shared.within(platform, parts(), (two) => shared.within(platform, parts(), (three) => work(app.url, two.url, three.url)));

    it('in three processes: no more than eight', () =>
      inThree(async (...urls) => {
        expect((await statementsOfStorm(undefined, ...urls)).length).toBeLessThanOrEqual(8);
      }));

    if (expected !== 'replay') return;

    const times = (name: string, statements: readonly string[] = proxy.statements): number =>
      statements.filter((statement) => statement === name).length;

    /** What runs in `first` is waited for in `others`, which listen by then. */
    async function waitsFor(first: string, ...others: string[]): Promise<void> {
      const [key, before] = [newKey(), times('idempotency_attend')];
      const running = send(`${first}/${path}`, { key, body: {} });
      await stage.reached(key);
      const waiting = others.map((url) => send(`${url}/${path}`, { key, body: {} }));
      await until(() => times('idempotency_attend') === before + others.length);
      stage.open(key);
      await Promise.all([running, ...waiting]);
    }

    it('in three processes that listen already: eight, for a handler of a hundred milliseconds', () =>
      inThree(async (one, two, three) => {
        await waitsFor(one!, two!, three!);
        await waitsFor(two!, one!);
        const attended = times('idempotency_attend') + 2;
        const statements = await statementsOfStorm(
          async () => {
            await until(() => times('idempotency_attend') === attended);
            await pause(100); // in which nobody looks
          },
          one!,
          two!,
          three!,
        );
        expect(statements.filter((name) => name !== 'idempotency_claim')).toEqual([
          'idempotency_attend',
          'idempotency_attend',
          'idempotency_complete',
        ]);
        const atItsEnd = statements.slice(statements.indexOf('idempotency_complete'));
        expect(times('idempotency_claim', atItsEnd)).toBe(2);
        // Who loses the race for the key against an insert that is newer than his snapshot asks what has won.
        expect(times('idempotency_claim', statements) - 2).toBeLessThanOrEqual(3 + 2);
      }));
  });

  describe('for an answer that is asked for again and again', () => {
    it.each([
      ['removed in the table', (key: string) => shared.database().pool.query('delete from idempotency_records where key = $1', [key])],
      ['over in the table', (key: string) => shared.alter(key, `expires_at = statement_timestamp() - interval '1 second'`)],
    ])('one each time at the rate of a client that retries, so that what is %s is seen at once', async (_, remove) => {
      const key = newKey();
      await pay('payments', key);
      const retries = Array.from({ length: 10 }, () => () => pay('payments', key));
      expect(await statementsOf(...retries)).toEqual(retries.map(() => 'idempotency_claim'));
      await remove(key);
      expect(isReplay(await pay('payments', key))).toBe(false);
    });

    it('nothing for a moment where a crowd asks for it, until it is forgotten', async () => {
      const key = newKey();
      const first = await pay('payments', key);
      const hot = async (): Promise<void> => {
        // As many in a second as it takes is for this machine to manage: it goes on until one of them has cost nothing.
        for (let asked = 1; ; asked++) {
          const cost = await statementsOf(() => pay('payments', key));
          if (cost.length === 0) return expect(asked).toBeGreaterThan(HOT_READS);
        }
      };
      await hot();
      const replay = await pay('payments', key);
      expect([isReplay(replay), replay.text]).toEqual([true, first.text]);
      expect(codeOf(await pay('payments', key, { other: true }))).toBe('IDEMPOTENCY_KEY_REUSED');
      await app.app.get(IdempotencyService).forget({ scope: '', key });
      expect(isReplay(await pay('payments', key))).toBe(false);

      await hot();
      await app.app.get(IdempotencyService).forgetScope('');
      expect(isReplay(await pay('payments', key))).toBe(false);

      await hot();
      await shared.alter(key, `expires_at = statement_timestamp() - interval '1 second'`);
      await until(async () => !isReplay(await pay('payments', key)));
    });
  });
});
