/** Failures that Postgres would tell at COMMIT only: a handler that may be repeated hears of them before its answer is made. */
import { beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Post, Res, StreamableFile, UseInterceptors } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { Readable } from 'node:stream';
import { defer, map, mergeMap, race } from 'rxjs';
import type { Observable } from 'rxjs';
import { CurrentExecution, IdempotencyService, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, withDataSource, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import type { PlatformResponse } from './support/platform-response.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

beforeAll(async () => {
  await shared.database().pool.query(`
    create table parents (name text primary key);
    create table children (parent text not null references parents deferrable initially deferred, line text not null);
  `);
});

/** How many values it was handed; and it sets a header before the handler is called, as many do. */
class Above implements NestInterceptor {
  static readonly values: unknown[] = [];

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    context.switchToHttp().getResponse<PlatformResponse>().header('x-above', 'kept');
    return next.handle().pipe(map((value) => (Above.values.push(value), value)));
  }
}

/** Gives up on the handler when the test says so, and answers in its place when the test says that. */
class Impatient implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    const key = headers['idempotency-key'];
    return race(
      next.handle(),
      defer(() => stage.stopAt(`${key} time-out`)),
    ).pipe(
      mergeMap(async () => stage.stopAt(`${key} answer`)),
      map(() => ({ late: true })),
    );
  }
}

/** Goes on when the handler is done, with what that has returned. */
class Epilogue implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(mergeMap(async (epilogue: () => Promise<object>) => epilogue()));
  }
}

const SERIALIZABLE = { isolation: 'SERIALIZABLE', retries: 2 } as const;

@Controller()
class Desk {
  @Idempotent({ atomic: SERIALIZABLE })
  @Post('serializable')
  @UseInterceptors(Above)
  serializable(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: SERIALIZABLE })
  @Post('by-hand')
  byHand(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played, @Res() _response: unknown): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: SERIALIZABLE })
  @Post('epilogue')
  @UseInterceptors(Epilogue)
  epilogue(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'REPEATABLE READ', retries: 2 } })
  @Post('repeatable-read')
  repeatableRead(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { retries: 2 } })
  @Post('read-committed')
  readCommitted(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('once')
  once(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

/** Whether anything was written under that title yet decides what is written: two that see nothing must not both commit. */
async function seenAndWritten({ manager }: Pick<IdempotentExecution, 'manager'>, title: string, line: string): Promise<number> {
  const rows = await manager.query<unknown[]>('select from books where title = $1', [title]);
  await write(manager, title, line);
  return rows.length;
}

/** Another one that does the same, and commits first: whoever has seen nothing is doomed by that, and not told. */
async function rival(title: string): Promise<void> {
  await ours.dataSource().transaction('SERIALIZABLE', async (manager) => void (await seenAndWritten({ manager }, title, 'rival')));
}

function expectTransient(answer: Answer): void {
  expect([answer.status, codeOf(answer), field(answer, 'retry-after')]).toEqual([503, 'IDEMPOTENCY_TRANSACTION_FAILED', '1']);
}

const query = (text: string, ...values: unknown[]): Promise<unknown> => shared.database().pool.query(text, values);

async function children(parent: string): Promise<string[]> {
  const { rows } = await shared
    .database()
    .pool.query<{ line: string }>('select line from children where parent = $1 order by line', [parent]);
  return rows.map(({ line }) => line);
}

describe.each(PLATFORMS)('an atomic request with retries on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, more: AppParts = {}): Promise<void> => {
    const options = { pool: undefined, dataSource: ours.dataSource(), ...more.options };
    return shared.within(platform, { controllers: [Desk], ...more, options }, (app) => work(app).finally(() => stage.openAll()));
  };

  describe('that another one has doomed (write skew)', () => {
    it('hears of it when its handler is done, runs again, and has one answer; the other one is not disturbed', () =>
      within(async ({ url }) => {
        const [one, two, title] = [newKey(), newKey(), newKey()];
        const doomed = new Script(async ({ execution, run }) => {
          const seen = await seenAndWritten(execution, title, `one, run ${run}`);
          if (run === 1) await stage.stopAt(one);
          return { run, seen, attempt: execution.attempt };
        });
        const first = doomed.send(`${url}/serializable`, { key: one });
        await stage.reached(one);
        const faster = new Script(async ({ execution }) => ({ seen: await seenAndWritten(execution, title, 'two') }));
        expect(json(await faster.send(`${url}/serializable`, { key: two }))).toEqual({ seen: 0 });
        stage.open(one);
        const answer = await first;
        expect([answer.status, json(answer)]).toEqual([201, { run: 2, seen: 1, attempt: 1 }]);
        expect(await ours.read(title)).toEqual(['two', 'one, run 2']);
        const again = await doomed.send(`${url}/serializable`, { key: one });
        expect([isReplay(again), again.text, doomed.runs, faster.runs]).toEqual([true, answer.text, 2, 1]);
      }));

    it('shows interceptors the last value only', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          if (run < 3) await rival(key);
          return { key, run };
        });
        expect((await script.send(`${url}/serializable`, { key })).status).toBe(201);
        expect(Above.values.filter((value) => (value as { key: string } | undefined)?.key === key)).toEqual([{ key, run: 3 }]);
        expect(await ours.read(key)).toEqual(['rival', 'rival', 'run 3']);
      }));

    it('is not repeated for ever: 503 with Retry-After as without retries, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          await rival(key);
          return { run };
        });
        expectTransient(await script.send(`${url}/serializable`, { key }));
        expect([script.runs, await ours.read(key), await shared.records(key)]).toEqual([3, ['rival', 'rival', 'rival'], 0]);
      }));

    it('gets its new transaction from the same execution, finds its steps there, and can’t use the old one', () =>
      within(async ({ url }) => {
        const key = newKey();
        const managers: IdempotentExecution['manager'][] = [];
        const charges: string[] = [];
        const script = new Script(async ({ execution, run }) => {
          managers.push(execution.manager);
          const charge = await execution.step('charge', (step) => charges.push(step.key));
          await execution.transaction('entry', (manager) => seenAndWritten({ manager: manager as never }, key, `run ${run}`));
          if (run === 1) await rival(key);
          else await expect(managers[0]!.query('select 1')).rejects.toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_MISUSED' });
          return { run, charge };
        });
        expect(json(await script.send(`${url}/serializable`, { key }))).toEqual({ run: 2, charge: 1 });
        expect([charges.length, new Set(managers).size, await ours.read(key)]).toEqual([1, 2, ['rival', 'run 2']]);
      }));

    it('finds the response as it was: what its first run has set is not in the answer of its last', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, response, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          response.header('set-cookie', `run=${run}`).header('x-above', `run ${run}`);
          if (run > 1) return { run };
          response.status(402).header('location', '/run/1');
          await rival(key);
          return { run };
        });
        const { status, headers } = await script.send(`${url}/serializable`, { key });
        expect([status, headers['set-cookie'], headers['x-above'], headers['location']]).toEqual([201, ['run=2'], ['run 2'], undefined]);
        const other = new Script(async ({ execution, response, run }) => {
          await seenAndWritten(execution, key, `other ${run}`);
          if (run > 1) return {};
          response.header('x-above', 'run 1');
          await rival(key);
          return {};
        });
        expect(field(await other.send(`${url}/serializable`, { key: newKey() }), 'x-above')).toBe('kept');
      }));

    it('is not repeated once it has written its answer itself: 503, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, response, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          await rival(key);
          response.status(201).send({ run });
        });
        expectTransient(await script.send(`${url}/by-hand`, { key }));
        expect([script.runs, await ours.read(key), await shared.records(key)]).toEqual([1, ['rival'], 0]);
      }));

    it('nor by a statement of its handler that comes after that answer', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, response, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          await rival(key);
          response.status(201).send({ run });
          await write(execution.manager, key, 'too late');
        });
        expectTransient(await script.send(`${url}/by-hand`, { key }));
        expect([script.runs, await ours.read(key), await shared.records(key)]).toEqual([1, ['rival'], 0]);
      }));

    it('is not repeated when an interceptor above has given up on it', () =>
      within(
        async ({ url }) => {
          const key = newKey();
          const script = new Script(async ({ execution, run }) => {
            await seenAndWritten(execution, key, `run ${run}`);
            await rival(key);
            await stage.stopAt(key);
          });
          const first = script.send(`${url}/serializable`, { key });
          await stage.reached(key);
          stage.open(`${key} time-out`);
          await stage.reached(`${key} answer`);
          stage.open(key);
          await until(async () => (await shared.records(key)) === 0);
          expect([script.runs, await ours.read(key)]).toEqual([1, ['rival']]);
          stage.open(`${key} answer`);
          expect(json(await first)).toEqual({ late: true });
        },
        { providers: [{ provide: APP_INTERCEPTOR, useClass: Impatient }] },
      ));

    it('only after its handler was done can’t be repeated: 503, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await seenAndWritten(execution, key, `run ${run}`);
          return async () => {
            if (run === 1) await rival(key);
            else await write(execution.manager, key, 'an interceptor’s');
            return { run };
          };
        });
        expectTransient(await script.send(`${url}/epilogue`, { key }));
        expect([script.runs, await ours.read(key), await shared.records(key)]).toEqual([1, ['rival'], 0]);
        expect(json(await script.send(`${url}/epilogue`, { key }))).toEqual({ run: 2 });
        expect(await ours.read(key)).toEqual(['rival', 'run 2', 'an interceptor’s']);
      }));

    it('without a key learns it at its next statement, and is repeated; or at COMMIT, which is 503', () =>
      within(async ({ url }) => {
        for (const reads of [true, false]) {
          const title = newKey();
          const script = new Script(async ({ execution, run }) => {
            await seenAndWritten(execution, title, `run ${run}`);
            if (run === 1) await rival(title);
            if (reads) await execution.manager.query('select from books where title = $1', [title]);
            return { run };
          });
          const answer = await script.send(`${url}/serializable`);
          if (reads) expect(json(answer)).toEqual({ run: 2 });
          else expectTransient(answer);
          expect(await ours.read(title)).toEqual(reads ? ['rival', 'run 2'] : ['rival']);
        }
      }));

    it('in IdempotencyService.run does so too', () =>
      within(async ({ app }) => {
        const key = newKey();
        let runs = 0;
        const { value } = await app.get(IdempotencyService).run({ operation: 'books', key, atomic: SERIALIZABLE }, async (execution) => {
          const seen = await seenAndWritten(execution, key, `run ${(runs += 1)}`);
          if (runs === 1) await rival(key);
          return { seen };
        });
        expect([value, runs, await ours.read(key)]).toEqual([{ seen: 1 }, 2, ['rival', 'run 2']]);
      }));
  });

  describe('with a deferred constraint', () => {
    it('whose check meets a change (a row that it refers to was replaced) is repeated, with a key and without one', () =>
      within(async ({ url }) => {
        for (const key of [newKey(), undefined]) {
          const parent = newKey();
          await query('insert into parents values ($1)', parent);
          const script = new Script(async ({ execution, run }) => {
            await execution.manager.query('insert into children values ($1, $2)', [parent, `run ${run}`]);
            if (run === 1) await query(`with gone as (delete from parents where name = $1) select`, parent);
            if (run === 1) await query('insert into parents values ($1)', parent);
            return { run };
          });
          const answer = await script.send(`${url}/repeatable-read`, key === undefined ? {} : { key });
          expect([answer.status, json(answer), await children(parent)]).toEqual([201, { run: 2 }, ['run 2']]);
        }
      }));

    it('whose check deadlocks with another one’s is repeated: both come through', () =>
      within(async ({ url }) => {
        const [left, right] = [newKey(), newKey()];
        await query('insert into parents values ($1), ($2)', left, right);
        const both = barrier(2);
        const script = (locked: string, parent: string): Script =>
          new Script(async ({ execution, run }) => {
            if (run > 1) await stage.stopAt(left); // or it may be faster than the other one once more
            await execution.manager.query('select from parents where name = $1 for update', [locked]);
            await execution.manager.query('insert into children values ($1, $2)', [parent, `beside ${locked}`]);
            if (run === 1) await both.arrive();
            return { run };
          });
        const scripts = [script(left, right), script(right, left)];
        const sent = scripts.map((each) => each.send(`${url}/read-committed`, { key: newKey() }));
        await Promise.race(sent);
        stage.open(left);
        const answers = await Promise.all(sent);
        expect(answers.map(({ status }) => status)).toEqual([201, 201]);
        expect(scripts.reduce((runs, each) => runs + each.runs, 0)).toBe(3);
        expect([await children(right), await children(left)]).toEqual([[`beside ${left}`], [`beside ${right}`]]);
      }));

    it('that is violated is 500 as it is at COMMIT, is not repeated, and leaves the key free', () =>
      within(async ({ url }) => {
        const [key, seat] = [newKey(), Math.floor(Math.random() * 1e9)];
        await query('insert into seats values ($1, $2)', seat, 'taken');
        const script = new Script(async ({ execution, run }) => {
          await execution.manager.query('insert into seats values ($1, $2)', [seat + (run - 1), key]);
          return { run };
        });
        const answer = await script.send(`${url}/read-committed`, { key });
        expect([answer.status, codeOf(answer), field(answer, 'retry-after')]).toEqual([500, 'IDEMPOTENCY_TRANSACTION_FAILED', undefined]);
        expect([script.runs, await shared.records(key)]).toEqual([1, 0]);
        expect(json(await script.send(`${url}/read-committed`, { key }))).toEqual({ run: 2 });
      }));

    it('that is violated on the way, and not in the end, is satisfied', () =>
      within(async ({ url }) => {
        const [key, seat] = [newKey(), Math.floor(Math.random() * 1e9)];
        const script = new Script(async ({ execution: { manager } }) => {
          await manager.query('insert into seats values ($1, $3), ($2, $3)', [seat, seat + 1, key]);
          await manager.query('update seats set number = $1 where number = $2', [seat, seat + 1]);
          await manager.query('delete from seats where ctid = (select min(ctid) from seats where number = $1)', [seat]);
          return {};
        });
        expect((await script.send(`${url}/read-committed`, { key })).status).toBe(201);
      }));
  });

  it('whose handler has swallowed a serialization failure is repeated, too', () =>
    within(async ({ url }) => {
      const key = newKey();
      await ours.set(key, 0);
      const script = new Script(async ({ execution, run }) => {
        await execution.manager.query('select from counters where name = $1', [key]);
        if (run === 1) await ours.set(key, 10);
        await execution.manager.query('update counters set value = value + 1 where name = $1', [key]).catch(() => undefined);
        return { run };
      });
      expect(json(await script.send(`${url}/repeatable-read`, { key }))).toEqual({ run: 2 });
      expect(await ours.counter(key)).toBe(11);
    }));

  it.each<[string, string, () => unknown, number]>([
    ['asks Postgres once, in one trip', 'read-committed', () => ({}), 1],
    ['asks nothing where nothing could be repeated', 'once', () => ({}), 0],
    ['asks nothing before a stream is handed on', 'read-committed', () => new StreamableFile(Readable.from([Buffer.from('x')])), 0],
  ])('%s (%s)', async (_, path, value, times) => {
    const proxy = await startTcpProxy(shared.database().url);
    try {
      await withDataSource({ ...shared, database: () => ({ ...shared.database(), url: proxy.url }) }, {}, (dataSource) =>
        within(
          async ({ url }) => {
            const script = new Script(async ({ execution }) => {
              await write(execution.manager, newKey(), 'a line');
              return value();
            });
            const before = proxy.trips.length;
            expect((await script.send(`${url}/${path}`, { key: newKey() })).status).toBe(201);
            const trips = proxy.trips.slice(before);
            expect(trips.filter(([first]) => first === 'idempotency_check_constraints')).toHaveLength(times);
            expect(trips.length - times).toBe(4); // claim, begin, the handler's own, the answer with commit
          },
          { options: { dataSource } },
        ),
      );
    } finally {
      await proxy.close();
    }
  });
});
