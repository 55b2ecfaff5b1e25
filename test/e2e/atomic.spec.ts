import { describe, expect, it } from '@jest/globals';
import {
  Body,
  ConflictException,
  Controller,
  HttpException,
  Param,
  ParseIntPipe,
  Post,
  RequestTimeoutException,
  UseInterceptors,
} from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable, TimeoutError, catchError, of, throwError, timeout } from 'rxjs';
import { CurrentExecution, IdempotencyService, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, withDataSource, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

/** Turns every error into an answer, as an interceptor with a fallback does. */
class Forgiving implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of({ forgiven: true })));
  }
}

class Impatient implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(30),
      catchError((error) => throwError(() => (error instanceof TimeoutError ? new RequestTimeoutException() : error))),
    );
  }
}

@Controller()
class Desk {
  @Idempotent({ atomic: true })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic/:number')
  withPipe(
    @CurrentExecution() execution: IdempotentExecution,
    @Play() script: Played,
    @Param('number', ParseIntPipe) _number: number,
  ): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('forgiven')
  @UseInterceptors(Forgiving)
  forgiven(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('impatient')
  @UseInterceptors(Impatient)
  impatient(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true, lockTtl: '1s' })
  @Post('short-lease')
  shortLease(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'READ COMMITTED' } })
  @Post('read-committed')
  readCommitted(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'REPEATABLE READ' } })
  @Post('repeatable-read')
  repeatableRead(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'SERIALIZABLE' } })
  @Post('serializable')
  serializable(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('with-phases')
  withPhases(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Post('plain')
  plain(@Body() body: object): object {
    return body;
  }
}

/** Connections of an application's pool that stand in a transaction right now. */
async function inTransaction(name = 'books'): Promise<number> {
  const { rows } = await shared
    .database()
    .pool.query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = $1 and state like 'idle in transaction%'`,
      [name],
    );
  return rows[0]!.n;
}

async function allRecords(): Promise<number> {
  const { rows } = await shared.database().pool.query<{ n: number }>('select count(*)::int as n from idempotency_records');
  return rows[0]!.n;
}

const parts = { controllers: [Desk] } satisfies AppParts;

describe.each(PLATFORMS)('atomic mode on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, more: AppParts = {}): Promise<void> =>
    shared.within(platform, { ...parts, ...more, options: { pool: undefined, dataSource: ours.dataSource(), ...more.options } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  describe('commits the rows and the answer together', () => {
    it('when the handler returns: nothing of it is seen before, and all of it once the answer is there', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          await stage.stopAt(key);
          return { attempt: execution.attempt };
        });
        const first = script.send(`${url}/atomic`, { key });
        await stage.reached(key);
        expect(await ours.read(key)).toEqual([]);
        stage.open(key);
        const answer = await first;
        expect([answer.status, json(answer)]).toEqual([201, { attempt: 1 }]);
        expect(await ours.read(key)).toEqual(['charged']);

        const again = await script.send(`${url}/atomic`, { key });
        expect([isReplay(again), again.text, script.runs]).toEqual([true, answer.text, 1]);
        expect(await ours.read(key)).toEqual(['charged']);
        expect(await inTransaction()).toBe(0);
      }));

    it('when it sets a 4xx itself: that is its answer, and its rows belong to it', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, response }) => {
          await write(execution.manager, key, 'declined');
          response.status(402);
          return { declined: true };
        });
        const answer = await script.send(`${url}/atomic`, { key });
        expect([answer.status, await ours.read(key)]).toEqual([402, ['declined']]);
        const again = await script.send(`${url}/atomic`, { key });
        expect([again.status, isReplay(again), script.runs]).toEqual([402, true, 1]);
      }));

    it('though the client has gone', () =>
      within(async ({ url, app }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          await stage.stopAt(key);
          return { ok: true };
        });
        const service = app.get(IdempotencyService);
        const client = new AbortController();
        const gone = fetch(`${url}/atomic`, {
          method: 'POST',
          signal: client.signal,
          headers: { 'idempotency-key': key, 'x-script': script.name },
        });
        await stage.reached(key);
        client.abort();
        await expect(gone).rejects.toThrow('aborted');
        stage.open(key);
        await until(async () => (await service.find({ scope: '', key }))?.state === 'completed');
        expect(await ours.read(key)).toEqual(['charged']);
      }));
  });

  describe('rolls the rows back', () => {
    it('of a handler that throws a 4xx, and keeps that answer', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          throw new ConflictException('sold out');
        });
        const answer = await script.send(`${url}/atomic`, { key });
        expect([answer.status, await ours.read(key)]).toEqual([409, []]);
        const again = await script.send(`${url}/atomic`, { key });
        expect([again.status, again.text, isReplay(again), script.runs]).toEqual([409, answer.text, true, 1]);
      }));

    it.each([
      ['throws a 5xx', 503, () => new HttpException('no provider', 503)],
      ['throws an error of its own', 500, () => new TypeError('x is not a function')],
      ['throws a 401', 401, () => new HttpException('who are you', 401)],
      ['throws a 403', 403, () => new HttpException('not you', 403)],
      ['throws a 429', 429, () => new HttpException('not now', 429)],
    ])('of a handler that %s, and frees the key', (_, status, error) =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          if (run === 1) throw error();
          return { run };
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(status);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
        const again = await script.send(`${url}/atomic`, { key });
        expect([again.status, isReplay(again), json(again)]).toEqual([201, false, { run: 2 }]);
        expect(await ours.read(key)).toEqual(['run 2']);
      }),
    );

    it('of a handler that sets a 5xx, and frees the key', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, response }) => {
          await write(execution.manager, key, 'charged');
          response.status(502);
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(502);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
      }));

    it('of a handler that threw, though an inner interceptor makes an answer of it: that one is kept', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          throw new Error('half-way');
        });
        const answer = await script.send(`${url}/forgiven`, { key });
        expect([answer.status, json(answer)]).toEqual([201, { forgiven: true }]);
        expect(await ours.read(key)).toEqual([]);
        const again = await script.send(`${url}/forgiven`, { key });
        expect([isReplay(again), json(again), script.runs]).toEqual([true, { forgiven: true }, 1]);
        expect(await ours.read(key)).toEqual([]);
      }));

    it('of a handler that an interceptor gave up on: the client has its time-out, and the key is free when the handler is done', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          if (run === 1) await stage.stopAt(key);
          return { run };
        });
        expect((await script.send(`${url}/impatient`, { key })).status).toBe(408);
        expect(codeOf(await script.send(`${url}/impatient`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
        stage.open(key);
        await until(async () => (await shared.records(key)) === 0);
        expect([await ours.read(key), await inTransaction()]).toEqual([[], 0]);
      }));
  });

  it('a request that a pipe refuses holds nothing and leaves the key free', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = new Script(() => ({}));
      expect((await script.send(`${url}/atomic/one`, { key })).status).toBe(400);
      expect([script.runs, await shared.records(key), await inTransaction()]).toEqual([0, 0, 0]);
      expect((await script.send(`${url}/atomic/1`, { key })).status).toBe(201);
    }));

  describe('a rival, while the handler is at work', () => {
    it('gets its 409 at once, and needs none of the connections', () =>
      withDataSource(shared, { poolSize: 1, applicationName: 'single' }, (single) =>
        within(
          async ({ url }) => {
            const key = newKey();
            const script = new Script(async ({ execution }) => {
              await write(execution.manager, key, 'charged');
              await stage.stopAt(key);
              return {};
            });
            const first = script.send(`${url}/atomic`, { key });
            await stage.reached(key);
            const rivals = await Promise.all(Array.from({ length: 5 }, () => script.send(`${url}/atomic`, { key })));
            for (const rival of rivals)
              expect([rival.status, codeOf(rival), field(rival, 'retry-after')]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE', '1']);
            expect(await inTransaction('single')).toBe(1);
            stage.open(key);
            expect((await first).status).toBe(201);
            expect([script.runs, await ours.read(key)]).toEqual([1, ['charged']]);
          },
          { options: { dataSource: single } },
        ),
      ));

    it('does so when the lease of the claim is long over, too: the transaction holds the row', () =>
      within(async ({ url, app }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          await stage.stopAt(key);
          return {};
        });
        const first = script.send(`${url}/short-lease`, { key });
        await stage.reached(key);
        await until(async () => {
          const { rows } = await shared
            .database()
            .pool.query<{ over: boolean }>('select locked_until < now() as over from idempotency_records where key = $1', [key]);
          return rows[0]!.over;
        });
        expect(codeOf(await script.send(`${url}/short-lease`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
        expect(await app.get(IdempotencyService).find({ scope: '', key })).toMatchObject({ state: 'running', attempt: 1 });
        await expect(app.get(IdempotencyService).forget({ scope: '', key })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
        stage.open(key);
        expect((await first).status).toBe(201);
        expect([script.runs, await ours.read(key)]).toEqual([1, ['charged']]);
      }));
  });

  it.each([
    ['atomic', 'read committed'],
    ['read-committed', 'read committed'],
    ['repeatable-read', 'repeatable read'],
    ['serializable', 'serializable'],
  ])('%s runs under %s, and its answer is kept', (path, isolation) =>
    within(async ({ url }) => {
      const key = newKey();
      const script = new Script(async ({ execution }) => {
        const [row] = await execution.manager.query<{ transaction_isolation: string }[]>('show transaction_isolation');
        await write(execution.manager, key, 'charged');
        return row;
      });
      expect(json(await script.send(`${url}/${path}`, { key }))).toEqual({ transaction_isolation: isolation });
      expect(isReplay(await script.send(`${url}/${path}`, { key }))).toBe(true);
    }),
  );

  it.each([4, 1])('as many requests as the pool has connections (%d) make progress together, whatever they ask of the module', (size) =>
    withDataSource(shared, { poolSize: size }, (small) =>
      within(
        async ({ app, url }) => {
          const service = app.get(IdempotencyService);
          const everybody = barrier(size);
          const keys = Array.from({ length: 2 * size }, newKey);
          const answers = await Promise.all(
            keys.map((key, i) =>
              new Script(async ({ execution }) => {
                await write(execution.manager, key, 'before');
                if (i < size) await everybody.arrive(); // all connections are held by now
                const { id } = await execution.step('charge', () => ({ id: i }));
                await execution.transaction('entry', (manager) => write(manager, key, `charged ${id}`));
                await service.run({ operation: 'mail', key }, async (run) => {
                  await run.step('send', () => ({ id }));
                  await write(run.manager, key, 'mailed');
                });
                expect(await service.find({ scope: '', key })).toMatchObject({ state: 'running', steps: ['charge'] });
                return { id };
              }).send(`${url}/atomic`, { key }),
            ),
          );
          expect(answers.map(({ status }) => status)).toEqual(keys.map(() => 201));
          expect(await Promise.all(keys.map(ours.read))).toEqual(keys.map((_, i) => ['before', `charged ${i}`, 'mailed']));
        },
        { options: { dataSource: small, poolSize: 1 } },
      ),
    ),
  );

  it.each([4, 1])('as many phases of plain requests as the pool has connections (%d) make progress together', (size) =>
    withDataSource(shared, { poolSize: size }, (small) =>
      within(
        async ({ url }) => {
          const everybody = barrier(size);
          const keys = Array.from({ length: 2 * size }, newKey);
          let inside = 0;
          const answers = await Promise.all(
            keys.map((key) =>
              new Script(async ({ execution }) => {
                await execution.step('charge', () => 'charged');
                await execution.transaction('entry', async (manager) => {
                  await write(manager, key, 'charged');
                  if ((inside += 1) <= size) await everybody.arrive(); // all connections are held by now
                });
                await execution.step('mail', () => 'mailed');
                return {};
              }).send(`${url}/with-phases`, { key }),
            ),
          );
          expect(answers.map(({ status }) => status)).toEqual(keys.map(() => 201));
          expect(await Promise.all(keys.map(ours.read))).toEqual(keys.map(() => ['charged']));
        },
        { options: { dataSource: small, poolSize: 1 } },
      ),
    ),
  );

  describe('a request without a key, on a route that does not require one,', () => {
    it('runs in an ordinary transaction, which commits', () =>
      within(async ({ url }) => {
        const title = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, title, 'charged');
          return { key: execution.key ?? null, scope: execution.scope, attempt: execution.attempt };
        });
        const before = await allRecords();
        const answer = await script.send(`${url}/atomic`);
        expect([answer.status, json(answer)]).toEqual([201, { key: null, scope: '', attempt: 1 }]);
        expect([await ours.read(title), await inTransaction()]).toEqual([['charged'], 0]);
        expect(await allRecords()).toBe(before);
      }));

    it.each([
      ['throws a 4xx', 409, true],
      ['throws a 5xx', 503, true],
      ['sets a 5xx', 502, false],
    ])('that is rolled back when the handler %s', (_, status, throws) =>
      within(async ({ url }) => {
        const title = newKey();
        const script = new Script(async ({ execution, response }) => {
          await write(execution.manager, title, 'charged');
          if (throws) throw new HttpException('no', status);
          response.status(status);
          return {};
        });
        expect((await script.send(`${url}/atomic`)).status).toBe(status);
        expect([await ours.read(title), await inTransaction()]).toEqual([[], 0]);
      }),
    );
  });
});
