/** Idempotent code without HTTP: `IdempotencyService.run`, by itself and inside atomic requests. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ConflictException, Controller, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution, RunOptions } from '../../lib/index.js';
import type { RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Stage, until } from './support/stage.js';
import { isReplay, json } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

@Controller()
class Desk {
  @Idempotent({ atomic: true })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('plain')
  plain(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

let app: RunningApp;
let service: IdempotencyService;

beforeAll(async () => {
  app = await shared.start('express', { controllers: [Desk], options: { pool: undefined, dataSource: ours.dataSource() } });
  service = app.app.get(IdempotencyService);
});
afterAll(() => stage.openAll());

const mail = (key = newKey(), more: Partial<RunOptions> = {}): RunOptions => ({ operation: 'mail', key, ...more });
const failure = new Error('no mail server');
const stateOf = async (key: string): Promise<string | undefined> => (await service.find({ scope: '', operation: 'mail', key }))?.state;

describe('run', () => {
  it('runs the work once, and gives its value ever after', async () => {
    const options = mail();
    let runs = 0;
    const work = async (): Promise<{ runs: number }> => ({ runs: (runs += 1) });
    expect(await service.run(options, work)).toEqual({ value: { runs: 1 }, replayed: false });
    expect(await service.run(options, work)).toEqual({ value: { runs: 1 }, replayed: true });
    expect(await service.find({ scope: '', ...options })).toMatchObject({ state: 'completed', operation: 'mail', scope: '', status: 200 });
  });

  it('gives what its JSON gives, the first time as every other', async () => {
    for (const [made, given] of [
      [new Date(0), new Date(0).toISOString()],
      [undefined, undefined],
      [null, null],
      [{ a: undefined, b: [undefined] }, { b: [null] }],
      ['', ''],
    ]) {
      const options = mail();
      expect((await service.run(options, () => made)).value).toStrictEqual(given);
      expect((await service.run(options, () => made)).value).toStrictEqual(given);
    }
  });

  it('throws what the work throws, and the key is free', async () => {
    const options = mail();
    await expect(service.run(options, () => Promise.reject(failure))).rejects.toBe(failure);
    await expect(
      service.run(options, () => {
        throw failure;
      }),
    ).rejects.toBe(failure);
    expect(await stateOf(options.key)).toBeUndefined();
    expect(await service.run(options, () => 'sent')).toEqual({ value: 'sent', replayed: false });
  });

  it('refuses a value that is no JSON, and the key is free', async () => {
    const options = mail();
    await expect(service.run(options, () => 1n)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STEP_INVALID' });
    await expect(service.run(options, () => () => 1)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STEP_INVALID' });
    expect(await stateOf(options.key)).toBeUndefined();
  });

  it('refuses another input under the same key, in any state', async () => {
    const key = newKey();
    const opening = service.run(mail(key, { input: { order: 1, to: 'ada' } }), () => stage.stopAt(key));
    await stage.reached(key);
    const reused = { code: 'IDEMPOTENCY_KEY_REUSED', status: 422 };
    await expect(service.run(mail(key, { input: { order: 2 } }), () => 1)).rejects.toMatchObject(reused);
    stage.open(key);
    await opening;
    await expect(service.run(mail(key, { input: { order: 2 } }), () => 1)).rejects.toMatchObject(reused);
    await expect(service.run(mail(key), () => 1)).rejects.toMatchObject(reused);
    expect(await service.run(mail(key, { input: { to: 'ada', order: 1 } }), () => 1)).toMatchObject({ replayed: true });
  });

  it('keeps scopes and operations apart', async () => {
    const key = newKey();
    expect((await service.run(mail(key), () => 'everybody')).value).toBe('everybody');
    expect((await service.run(mail(key, { scope: 'id=1' }), () => 'one')).value).toBe('one');
    expect((await service.run(mail(key, { scope: 'id=2' }), () => 'two')).value).toBe('two');
    expect((await service.run({ operation: 'job', key }, () => 'job')).value).toBe('job');
    expect((await service.run(mail(key, { scope: 'id=1' }), () => 'again')).value).toBe('one');
  });

  it('of twenty at once lets one run; the others are refused with a wait', async () => {
    const options = mail();
    const refused = barrier(20);
    let runs = 0;
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () =>
        service
          .run(options, async () => {
            runs += 1;
            await refused.arrive();
            return 'sent';
          })
          .catch(async (error: unknown) => {
            await refused.arrive();
            throw error;
          }),
      ),
    );
    expect(runs).toBe(1);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE', status: 409, retryAfter: 1 });
    }
  });

  it('waits for the one that runs, where it is told to', async () => {
    const options = mail(newKey(), { onDuplicate: 'wait' });
    const first = service.run(options, async () => {
      await stage.stopAt(options.key);
      return 'sent';
    });
    await stage.reached(options.key);
    const others = Array.from({ length: 10 }, () => service.run(options, () => 'again'));
    stage.open(options.key);
    expect(await first).toEqual({ value: 'sent', replayed: false });
    for (const other of others) expect(await other).toEqual({ value: 'sent', replayed: true });
    const short = mail(newKey(), { onDuplicate: 'wait', waitTimeout: 20 });
    const slow = service.run(short, () => stage.stopAt(short.key));
    await stage.reached(short.key);
    await expect(service.run(short, () => 'again')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
    stage.open(short.key);
    await slow;
  });

  it('hands the execution over, and current() finds it below', async () => {
    const options = mail(newKey(), { scope: 'id=7' });
    await service.run(options, async (execution) => {
      await Promise.resolve();
      expect(service.current()).toBe(execution);
      expect([execution.key, execution.scope, execution.attempt]).toEqual([options.key, 'id=7', 1]);
      expect(execution.keyFor('send')).toMatch(/^[\w-]{16,64}$/);
      expect(execution.signal.aborted).toBe(false);
    });
    expect(service.current()).toBeUndefined();
  });

  it('has steps, which are kept over failures', async () => {
    const options = mail();
    let calls = 0;
    const work = async (execution: IdempotentExecution): Promise<object> => {
      const sent = await execution.step('send', () => (calls += 1));
      if (execution.attempt === 1) throw failure;
      return { sent, attempt: execution.attempt };
    };
    await expect(service.run(options, work)).rejects.toBe(failure);
    expect(await stateOf(options.key)).toBe('open');
    expect((await service.run(options, work)).value).toEqual({ sent: 1, attempt: 2 });
  });

  it('of a value that is too large to keep gives it once, and never runs again', async () => {
    const options = mail();
    const { value } = await service.run(options, () => 'x'.repeat(1024 * 1024));
    expect(value).toHaveLength(1024 * 1024);
    await expect(service.run(options, () => 'again')).rejects.toMatchObject({ code: 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE' });
  });

  it.each<[string, object, RegExp]>([
    ['an unknown option', { timeToLive: '1h' }, /timeToLive.*is no option/s],
    ['a bad duration', { ttl: 'soon' }, /ttl.*no duration/s],
    ['an empty operation', { operation: '' }, /operation.*is empty/s],
    ['a missing operation', { operation: undefined }, /operation.*is missing/s],
    ['an option of routes only', { storeIf: 'all' }, /storeIf/],
    ['a key source', { keyFrom: { param: 'id' } }, /keyFrom/],
    ['bypass in atomic mode', { atomic: true, onStoreFailure: 'bypass' }, /onStoreFailure.*atomic/s],
    ['an isolation level that is none', { atomic: { isolation: 'NONE' } }, /isolation: 'NONE'/],
  ])('refuses %s, clearly and before anything runs', async (_, options, message) => {
    let runs = 0;
    const run = service.run({ ...mail(), ...options }, () => (runs += 1));
    await expect(run).rejects.toThrow(message);
    expect(runs).toBe(0);
  });

  it.each([
    ['an empty', ''],
    ['too long a', 'x'.repeat(256)],
    ['a missing', undefined],
    ['a numeric', 42],
  ])('refuses %s key', async (_, key) => {
    await expect(service.run({ operation: 'mail', key: key as string }, () => 1)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_KEY_INVALID',
    });
  });

  it('runs unprotected without Postgres where it is told to, and is refused otherwise', async () => {
    const gone = new Pool({ connectionString: 'postgres://127.0.0.1:1/none' });
    await shared.within('express', { controllers: [Desk], options: { pool: gone } }, async (other) => {
      const [theirs, key] = [other.app.get(IdempotencyService), newKey()];
      await expect(theirs.run(mail(key), () => 1)).rejects.toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', status: 503 });
      const result = await theirs.run(mail(key, { onStoreFailure: 'bypass' }), async (execution) => [
        execution.key,
        await execution.step('one', () => 1),
      ]);
      expect(result).toEqual({ value: [key, 1], replayed: false });
    });
    await gone.end();
  });
});

describe('an atomic run', () => {
  it('commits its rows with its value, and rolls them back when it throws', async () => {
    const options = mail(newKey(), { atomic: true });
    const work = async (execution: IdempotentExecution, fails: boolean): Promise<string> => {
      await write(execution.manager, options.key, 'by manager');
      await write(execution.client, options.key, 'by client');
      await write(service.manager, options.key, 'by service');
      expect(await ours.read(options.key)).toEqual([]);
      if (fails) throw failure;
      return 'sent';
    };
    await expect(service.run(options, (execution) => work(execution, true))).rejects.toBe(failure);
    expect([await ours.read(options.key), await stateOf(options.key)]).toEqual([[], undefined]);
    expect(await service.run(options, (execution) => work(execution, false))).toEqual({ value: 'sent', replayed: false });
    expect(await ours.read(options.key)).toEqual(['by manager', 'by client', 'by service']);
    expect(await service.run(options, (execution) => work(execution, true))).toEqual({ value: 'sent', replayed: true });
  });

  it.each([0, 2])('is repeated as often as it is told to (%d) when it meets another transaction', async (retries) => {
    const options = mail(newKey(), { atomic: { isolation: 'REPEATABLE READ', retries } });
    await ours.set(options.key, 0);
    let [runs, steps] = [0, 0];
    const run = service.run(options, async ({ manager, step }) => {
      runs += 1;
      await write(manager, options.key, `run ${runs}`);
      await manager.query('select value from counters where name = $1', [options.key]);
      if (runs < 3) await ours.set(options.key, runs);
      await manager.query('update counters set value = value + 10 where name = $1', [options.key]);
      return { runs, steps, step: typeof step };
    });
    if (retries === 0) {
      await expect(run).rejects.toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_FAILED', status: 503, retryAfter: 1 });
      expect([await ours.read(options.key), await stateOf(options.key)]).toEqual([[], undefined]);
    } else {
      expect((await run).value).toMatchObject({ runs: 3 });
      expect([await ours.read(options.key), await ours.counter(options.key)]).toEqual([['run 3'], 12]);
    }
  });

  it('finds its recorded steps when it is repeated', async () => {
    const options = mail(newKey(), { atomic: { isolation: 'REPEATABLE READ', retries: 2 } });
    await ours.set(options.key, 0);
    let [runs, calls] = [0, 0];
    const { value } = await service.run(options, async (execution) => {
      runs += 1;
      const call = await execution.step('send', () => (calls += 1));
      await execution.manager.query('select value from counters where name = $1', [options.key]);
      if (runs < 3) await ours.set(options.key, runs);
      await execution.manager.query('update counters set value = value + 10 where name = $1', [options.key]);
      return { runs, call };
    });
    expect([value, calls]).toEqual([{ runs: 3, call: 1 }, 1]);
  });

  it('that can’t be committed throws, leaves nothing, and its key is free', async () => {
    const options = mail(newKey(), { atomic: true });
    const seat = Math.floor(Math.random() * 1e9);
    const run = service.run(options, ({ manager }) => manager.query('insert into seats values ($1, $2), ($1, $2)', [seat, options.key]));
    await expect(run).rejects.toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_FAILED', status: 500 });
    expect(await stateOf(options.key)).toBeUndefined();
  });
});

describe('a run inside an atomic request', () => {
  /** A request whose handler runs a mail, and may fail afterwards. */
  const requestWith = (
    key: string,
    fails: (run: number) => Error | undefined = () => undefined,
  ): { script: Script; results: unknown[] } => {
    const results: unknown[] = [];
    const script = new Script(async ({ execution, run }) => {
      await write(execution.manager, key, `order ${run}`);
      const result = await service.run(mail(key), async (inner) => {
        await write(inner.manager, key, `mail ${run}`);
        return `mail ${run}`;
      });
      results.push(result);
      const error = fails(run);
      if (error !== undefined) throw error;
      return result;
    });
    return { script, results };
  };

  it('commits with the request: its rows, its value and the request’s own answer', async () => {
    const key = newKey();
    const { script } = requestWith(key);
    expect(json(await script.send(`${app.url}/atomic`, { key }))).toEqual({ value: 'mail 1', replayed: false });
    expect([await ours.read(key), await stateOf(key)]).toEqual([['order 1', 'mail 1'], 'completed']);
    expect(isReplay(await script.send(`${app.url}/atomic`, { key }))).toBe(true);
    expect(await service.run(mail(key), () => 'again')).toEqual({ value: 'mail 1', replayed: true });
  });

  it.each([
    ['fails', failure, 500],
    ['throws a 4xx that is kept', new ConflictException(), 409],
  ])('is released with the request that %s: the next one runs it again', async (_, error, status) => {
    const [key, other] = [newKey(), newKey()];
    const { script } = requestWith(key, (run) => (run === 1 ? error : undefined));
    expect((await script.send(`${app.url}/atomic`, { key })).status).toBe(status);
    expect([await ours.read(key), await stateOf(key)]).toEqual([[], undefined]);
    expect(json(await script.send(`${app.url}/atomic`, { key: other }))).toEqual({ value: 'mail 2', replayed: false });
    expect(await ours.read(key)).toEqual(['order 2', 'mail 2']);
  });

  it('is claimed for everybody to see while the request goes on', async () => {
    const key = newKey();
    const script = new Script(async () => {
      const result = await service.run(mail(key), () => 'sent');
      await stage.stopAt(key);
      return result;
    });
    const request = script.send(`${app.url}/atomic`, { key });
    await stage.reached(key);
    await expect(service.run(mail(key), () => 'rival')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
    expect(await stateOf(key)).toBe('running');
    stage.open(key);
    await request;
    expect(await service.run(mail(key), () => 'rival')).toEqual({ value: 'sent', replayed: true });
  });

  it('that fails is undone by itself, by a savepoint, and the request may go on', async () => {
    const key = newKey();
    const script = new Script(async ({ execution }) => {
      await write(execution.manager, key, 'order');
      const said = await service
        .run(mail(key), async ({ manager }) => {
          await write(manager, key, 'mail');
          await manager.query('select 1 / 0');
        })
        .catch((error: Error) => error.message);
      await write(execution.manager, key, 'after');
      return { said };
    });
    expect(json(await script.send(`${app.url}/atomic`, { key }))).toEqual({ said: 'division by zero' });
    expect([await ours.read(key), await stateOf(key)]).toEqual([['order', 'after'], undefined]);
  });

  it('replays within the request as well, and once more after it', async () => {
    const key = newKey();
    await service.run(mail(key), () => 'long ago');
    const { script } = requestWith(key);
    expect(json(await script.send(`${app.url}/atomic`, { key }))).toEqual({ value: 'long ago', replayed: true });
    expect(await ours.read(key)).toEqual(['order 1']);
  });

  it('can’t commit with a request that can’t: it is released', async () => {
    const key = newKey();
    const seat = Math.floor(Math.random() * 1e9);
    const script = new Script(async ({ execution }) => {
      const result = await service.run(mail(key), () => 'sent');
      await execution.manager.query('insert into seats values ($1, $2), ($1, $2)', [seat, key]);
      return result;
    });
    expect((await script.send(`${app.url}/atomic`, { key })).status).toBe(500);
    await until(async () => (await stateOf(key)) === undefined);
    expect(await service.run(mail(key), () => 'later')).toEqual({ value: 'later', replayed: false });
  });

  it('may run in another one, and all come through or vanish together', async () => {
    for (const fails of [true, false]) {
      const [outer, inner] = [newKey(), newKey()];
      const script = new Script(() =>
        service
          .run(mail(outer), async () => {
            const { value } = await service.run(mail(inner), async ({ manager }) => {
              await write(manager, outer, 'innermost');
              return 'inner';
            });
            return `outer of ${value}`;
          })
          .then((result) => {
            if (fails) throw failure;
            return result;
          }),
      );
      const answer = await script.send(`${app.url}/atomic`, { key: outer });
      expect(answer.status).toBe(fails ? 500 : 201);
      expect(await ours.read(outer)).toEqual(fails ? [] : ['innermost']);
      expect([await stateOf(outer), await stateOf(inner)]).toEqual(fails ? [undefined, undefined] : ['completed', 'completed']);
    }
  });

  it('stands alone within a step’s work: it is not undone with the request', async () => {
    const key = newKey();
    const script = new Script(async ({ execution, run }) => {
      await write(execution.manager, key, `order ${run}`);
      const sent = await execution.step('mail', () => service.run(mail(key), () => `mail ${run}`));
      if (run === 1) throw failure;
      return sent;
    });
    expect((await script.send(`${app.url}/atomic`, { key })).status).toBe(500);
    expect([await ours.read(key), await stateOf(key)]).toEqual([[], 'completed']);
    expect(json(await script.send(`${app.url}/atomic`, { key }))).toEqual({ value: 'mail 1', replayed: false });
  });

  it('stands alone in a plain request, too', async () => {
    const key = newKey();
    const script = new Script(async () => {
      await service.run(mail(key), () => 'sent');
      throw failure;
    });
    expect((await script.send(`${app.url}/plain`, { key })).status).toBe(500);
    expect(await stateOf(key)).toBe('completed');
  });

  it('is renewed while it runs, and held by the request afterwards: nobody takes it over', async () => {
    const key = newKey();
    const options = mail(key, { lockTtl: '1s' });
    const script = new Script(async () => {
      const result = await service.run(options, () => 'sent');
      await stage.stopAt(key);
      return result;
    });
    const leaseIsOver = async (): Promise<boolean> => {
      const { rows } = await shared
        .database()
        .pool.query<{ over: boolean }>(
          `select locked_until < now() as over from idempotency_records where key = $1 and operation = 'mail'`,
          [key],
        );
      return rows[0]!.over;
    };
    const request = script.send(`${app.url}/atomic`, { key });
    await stage.reached(key);
    await until(leaseIsOver);
    expect(await stateOf(key)).toBe('running');
    await expect(service.run(options, () => 'rival')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
    stage.open(key);
    await request;
    expect(await service.run(options, () => 'rival')).toEqual({ value: 'sent', replayed: true });
  });
});
