/** What becomes of an atomic request when Postgres, its connection or the application itself fails it. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { barrier } from '../support/barrier.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, withDataSource, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Journal } from './support/journal.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

@Controller()
class Desk {
  @Idempotent({ atomic: true })
  @Post('once')
  once(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { retries: 2 } })
  @Post('thrice')
  thrice(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'REPEATABLE READ' } })
  @Post('repeatable-read/once')
  repeatableReadOnce(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'REPEATABLE READ', retries: 2 }, storeTimeout: '500ms' })
  @Post('repeatable-read/thrice')
  repeatableReadThrice(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: { isolation: 'SERIALIZABLE' } })
  @Post('serializable')
  serializable(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

const parts = { controllers: [Desk] } satisfies AppParts;

/** Adds one to what it has read, while somebody else may have written. */
async function count({ manager }: IdempotentExecution, counter: string, meanwhile: () => Promise<void>): Promise<void> {
  await manager.query('select value from counters where name = $1', [counter]);
  await meanwhile();
  await manager.query('update counters set value = value + 1 where name = $1', [counter]);
}

async function lock({ manager }: IdempotentExecution, counter: string): Promise<void> {
  await manager.query('update counters set value = value + 1 where name = $1', [counter]);
}

function expectTransient(answer: Answer): void {
  expect([answer.status, codeOf(answer), field(answer, 'retry-after'), field(answer, 'cache-control')]).toEqual([
    503,
    'IDEMPOTENCY_TRANSACTION_FAILED',
    '1',
    'no-store',
  ]);
}

async function backendOf(manager: IdempotentExecution['manager']): Promise<number> {
  const [row] = await manager.query<[{ pid: number }]>('select pg_backend_pid() as pid');
  return row.pid;
}

const terminate = (pid: number): Promise<unknown> => shared.database().pool.query('select pg_terminate_backend($1)', [pid]);

describe.each(PLATFORMS)('an atomic request on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, more: AppParts = {}): Promise<void> =>
    shared.within(platform, { ...parts, ...more, options: { pool: undefined, dataSource: ours.dataSource(), ...more.options } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  describe('whose statement meets another transaction', () => {
    it('is 503 with Retry-After after a serialization failure, its rows are gone, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          await count(execution, key, async () => (run === 1 ? ours.set(key, 10) : undefined));
          return { run };
        });
        expectTransient(await script.send(`${url}/repeatable-read/once`, { key }));
        expect([script.runs, await ours.read(key), await ours.counter(key), await shared.records(key)]).toEqual([1, [], 10, 0]);
        expect((await script.send(`${url}/repeatable-read/once`, { key })).status).toBe(201);
        expect([await ours.read(key), await ours.counter(key)]).toEqual([['run 2'], 11]);
      }));

    it('is repeated as a whole where that is asked for, and answers as the last run did', () =>
      within(async ({ url }) => {
        const key = newKey();
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          await count(execution, key, async () => (run < 3 ? ours.set(key, 10 * run) : undefined));
          return { run, attempt: execution.attempt };
        });
        const answer = await script.send(`${url}/repeatable-read/thrice`, { key });
        expect([answer.status, json(answer)]).toEqual([201, { run: 3, attempt: 1 }]);
        expect([await ours.read(key), await ours.counter(key)]).toEqual([['run 3'], 21]);
        expect(isReplay(await script.send(`${url}/repeatable-read/thrice`, { key }))).toBe(true);
      }));

    it('is not repeated for ever', () =>
      within(async ({ url }) => {
        const key = newKey();
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          await count(execution, key, () => ours.set(key, 10 * run));
          return {};
        });
        expectTransient(await script.send(`${url}/repeatable-read/thrice`, { key }));
        expect([script.runs, await ours.counter(key), await shared.records(key)]).toEqual([3, 30, 0]);
      }));

    it('keeps its key to itself while it is being repeated', () =>
      within(async ({ url }) => {
        const key = newKey();
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          if (run === 2) await stage.stopAt(key);
          await count(execution, key, async () => (run === 1 ? ours.set(key, 1) : undefined));
          return { run };
        });
        const first = script.send(`${url}/repeatable-read/thrice`, { key });
        await stage.reached(key);
        expect(codeOf(await script.send(`${url}/repeatable-read/thrice`, { key }))).toBe('IDEMPOTENCY_KEY_IN_USE');
        stage.open(key);
        expect(json(await first)).toEqual({ run: 2 });
      }));

    it('finds its recorded steps when it is repeated: they are not taken again', () =>
      within(async ({ url }) => {
        const key = newKey();
        const charges: string[] = [];
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          const charge = await execution.step('charge', ({ key: provider }) => ({ number: charges.push(provider) }));
          await count(execution, key, async () => (run < 3 ? ours.set(key, run) : undefined));
          return { run, charge };
        });
        const answer = await script.send(`${url}/repeatable-read/thrice`, { key });
        expect([answer.status, json(answer)]).toEqual([201, { run: 3, charge: { number: 1 } }]);
        expect(charges).toHaveLength(1);
      }));

    it('is repeated without a key as well', () =>
      within(async ({ url }) => {
        const title = newKey();
        await ours.set(title, 0);
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, title, `run ${run}`);
          await count(execution, title, async () => (run === 1 ? ours.set(title, 1) : undefined));
          return { run };
        });
        expect(json(await script.send(`${url}/repeatable-read/thrice`))).toEqual({ run: 2 });
        expect(await ours.read(title)).toEqual(['run 2']);
      }));

    it.each(['once', 'thrice'])('breaks a deadlock: one of both comes through, the other one as it is told (%s)', (path) =>
      within(async ({ url }) => {
        const [left, right] = [newKey(), newKey()];
        await Promise.all([ours.set(left, 0), ours.set(right, 0)]);
        const both = barrier(2);
        const script = (first: string, second: string): Script =>
          new Script(async ({ execution, run }) => {
            await lock(execution, first);
            if (run === 1) await both.arrive();
            await lock(execution, second);
            return { run };
          });
        const answers = await Promise.all([
          script(left, right).send(`${url}/${path}`, { key: newKey() }),
          script(right, left).send(`${url}/${path}`, { key: newKey() }),
        ]);
        const refused = answers.filter(({ status }) => status !== 201);
        expect(refused).toHaveLength(path === 'once' ? 1 : 0);
        for (const answer of refused) expectTransient(answer);
        const through = 2 - refused.length;
        expect([await ours.counter(left), await ours.counter(right)]).toEqual([through, through]);
      }),
    );

    it('leaves other requests’ transactions alone when there is no connection for its repetition', () =>
      withDataSource(shared, { poolSize: 1 }, (single) =>
        within(
          async ({ url }) => {
            const [key, other] = [newKey(), newKey()];
            await ours.set(key, 0);
            const patient = new Script(async ({ execution }) => {
              await write(execution.manager, other, 'before');
              await stage.stopAt(other);
              await write(execution.manager, other, 'after');
              return {};
            });
            let theirs: Promise<Answer> | undefined;
            const script = new Script(async ({ execution, run }) => {
              theirs ??= patient.send(`${url}/once`, { key: other }); // it has the connection as soon as it is given back
              await until(async () => (await shared.records(other)) === 1);
              await count(execution, key, () => ours.set(key, run));
              return {};
            });
            const ended = script.send(`${url}/repeatable-read/thrice`, { key });
            await stage.reached(other);
            const answer = await ended;
            expect([answer.status, codeOf(answer), script.runs]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', 1]);
            expect(await shared.records(key)).toBe(0);
            stage.open(other);
            expect((await theirs!).status).toBe(201);
            expect(await ours.read(other)).toEqual(['before', 'after']);
          },
          { options: { dataSource: single } },
        ),
      ));
  });

  describe('that can’t be committed', () => {
    it('because of another one (write skew, found at COMMIT): 503 with Retry-After, and the key is free', () =>
      within(async ({ url }) => {
        const [one, two] = [newKey(), newKey()];
        const title = newKey();
        const both = barrier(2);
        const script = (key: string): Script =>
          new Script(async ({ execution, run }) => {
            const rows = await execution.manager.query<unknown[]>('select from books where title = $1', [title]);
            if (run === 1) await both.arrive();
            await write(execution.manager, title, key);
            if (run === 1) await written.arrive();
            return { seen: rows.length };
          });
        const written = barrier(2);
        const scripts = [script(one), script(two)] as const;
        const answers = await Promise.all([
          scripts[0].send(`${url}/serializable`, { key: one }),
          scripts[1].send(`${url}/serializable`, { key: two }),
        ]);
        const refused = answers.filter(({ status }) => status !== 201);
        expect(refused).toHaveLength(1);
        expectTransient(refused[0]!);
        expect(await ours.read(title)).toHaveLength(1);
        const loser = answers[0].status === 201 ? 1 : 0;
        const again = await scripts[loser].send(`${url}/serializable`, { key: [one, two][loser]! });
        expect([again.status, isReplay(again), json(again)]).toEqual([201, false, { seen: 1 }]);
      }));

    it('because of a deferred constraint: 500 that says so, nothing is left, and a better retry comes through', () =>
      within(async ({ url }) => {
        const [key, taken] = [newKey(), newKey()];
        const seat = Math.floor(Math.random() * 1e9);
        await shared.database().pool.query('insert into seats values ($1, $2)', [seat, taken]);
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          await execution.manager.query('insert into seats values ($1, $2)', [seat, key]);
          return { run };
        });
        const answer = await script.send(`${url}/once`, { key });
        expect([answer.status, codeOf(answer), field(answer, 'retry-after')]).toEqual([500, 'IDEMPOTENCY_TRANSACTION_FAILED', undefined]);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
        await shared.database().pool.query('delete from seats where title = $1', [taken]);
        expect(json(await script.send(`${url}/once`, { key }))).toEqual({ run: 2 });
        expect(await ours.read(key)).toEqual(['run 2']);
      }));

    it('because the handler has swallowed an error of Postgres: 500, whatever it answers', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          if (run === 1) await execution.manager.query('select 1 / 0').catch(() => undefined);
          return { run };
        });
        const answer = await script.send(`${url}/once`, { key });
        expect([answer.status, codeOf(answer)]).toEqual([500, 'IDEMPOTENCY_TRANSACTION_FAILED']);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
        expect(json(await script.send(`${url}/once`, { key }))).toEqual({ run: 2 });
      }));

    it('because the handler has swallowed a serialization failure: 503 with Retry-After', () =>
      within(async ({ url }) => {
        const key = newKey();
        await ours.set(key, 0);
        const script = new Script(async ({ execution }) => {
          await count(execution, key, () => ours.set(key, 10)).catch(() => undefined);
          return {};
        });
        expectTransient(await script.send(`${url}/repeatable-read/once`, { key }));
        expect([await ours.counter(key), await shared.records(key)]).toEqual([10, 0]);
      }));
  });

  describe('whose connection is cut while the handler is at work', () => {
    it('is rolled back and refused with 503, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          if (run === 1) await terminate(await backendOf(execution.manager));
          return { run };
        });
        const answer = await script.send(`${url}/once`, { key });
        expect([answer.status, codeOf(answer)]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE']);
        expect(field(answer, 'retry-after')).toBe('1');
        await until(async () => (await shared.records(key)) === 0);
        expect(await ours.read(key)).toEqual([]);
        expect(json(await script.send(`${url}/once`, { key }))).toEqual({ run: 2 });
        expect(await ours.read(key)).toEqual(['run 2']);
      }));

    it('answers with the handler’s own error where that noticed, and the key is free', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          if (run === 1) await terminate(await backendOf(execution.manager));
          await write(execution.manager, key, `run ${run}`);
          return { run };
        });
        expect((await script.send(`${url}/once`, { key })).status).toBe(500);
        await until(async () => (await shared.records(key)) === 0);
        expect(json(await script.send(`${url}/once`, { key }))).toEqual({ run: 2 });
        expect(await ours.read(key)).toEqual(['run 2']);
      }));

    it('leaves no broken connection in the application’s pool', () =>
      withDataSource(shared, { poolSize: 1 }, (single) =>
        within(
          async ({ url }) => {
            const script = new Script(async ({ execution, run }) => {
              if (run === 1) await terminate(await backendOf(execution.manager));
              return { run };
            });
            expect((await script.send(`${url}/once`, { key: newKey() })).status).toBe(503);
            expect((await script.send(`${url}/once`, { key: newKey() })).status).toBe(201);
            expect(await single.query('select 1 as one')).toEqual([{ one: 1 }]);
          },
          { options: { dataSource: single } },
        ),
      ));
  });

  describe('with every connection of the application’s pool in other hands', () => {
    it('is refused with 503 in time, its handler does not begin, and the key is free', () =>
      withDataSource(shared, { poolSize: 1 }, (single) =>
        within(
          async ({ url }) => {
            const runner = single.createQueryRunner();
            await runner.connect();
            const [key, script] = [newKey(), new Script(() => ({}))];
            const answer = await script.send(`${url}/repeatable-read/thrice`, { key });
            await runner.release();
            expect([answer.status, codeOf(answer), script.runs]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE', 0]);
            await until(async () => (await shared.records(key)) === 0);
            expect((await script.send(`${url}/repeatable-read/thrice`, { key })).status).toBe(201);
          },
          { options: { dataSource: single } },
        ),
      ));
  });

  describe('when the application closes', () => {
    it('may still be committed', () =>
      within(async ({ app, url }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'charged');
          await stage.stopAt(key);
          return {};
        });
        const first = script.send(`${url}/once`, { key });
        await stage.reached(key);
        const closing = app.close();
        const late = new Script(() => ({}));
        await until(async () => codeOf(await late.send(`${url}/once`, { key: newKey() })) === 'IDEMPOTENCY_STORE_UNAVAILABLE');
        stage.open(key);
        expect((await first).status).toBe(201);
        await closing;
        expect(await ours.read(key)).toEqual(['charged']);
      }));

    it('is rolled back when its time is over, and runs elsewhere as soon as the claim’s short lease has passed', async () => {
      const key = newKey();
      let said: unknown;
      const script = new Script(async ({ execution, run }) => {
        await write(execution.manager, key, `run ${run}`);
        if (run === 1) await stage.stopAt(key);
        try {
          await write(execution.manager, key, `late ${run}`);
        } catch (error) {
          said = error;
          throw error;
        }
        return { run };
      });
      await within(
        async ({ app, url }) => {
          const first = script.send(`${url}/once`, { key }).catch(() => undefined);
          await stage.reached(key);
          await app.close();
          await within(async (next) => {
            let answer = await script.send(`${next.url}/once`, { key });
            while (codeOf(answer) === 'IDEMPOTENCY_KEY_IN_USE') answer = await script.send(`${next.url}/once`, { key });
            expect(json(answer)).toEqual({ run: 2 });
          });
          stage.open(key);
          await first;
        },
        { options: { shutdownTimeout: 0 } },
      );
      await until(() => said !== undefined);
      expect(said).toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_MISUSED' });
      expect(await ours.read(key)).toEqual(['run 2', 'late 2']);
    });
  });

  describe('at boot', () => {
    const boot = (options: AppParts['options'], controller = Desk): Promise<{ journal: Journal; error: unknown }> => {
      const journal = new Journal();
      return shared
        .within(
          platform,
          {
            controllers: [controller],
            options: { pool: undefined, dataSource: ours.dataSource(), ...options },
            create: { logger: journal, abortOnError: false },
          },
          async () => undefined,
        )
        .then(
          () => ({ journal, error: undefined }),
          (error: unknown) => ({ journal, error }),
        );
    };

    it('can’t be told to run without Postgres', async () => {
      const { error } = await boot({ onStoreFailure: 'bypass' });
      expect(error).toMatchObject({
        faults: expect.arrayContaining([expect.objectContaining({ option: 'onStoreFailure', where: 'Desk.once' })]),
      });
    });

    it('warns of a pool with one connection, and of no larger one', async () => {
      const small = new Pool({ connectionString: shared.database().url, max: 1 });
      const { journal } = await boot({ dataSource: undefined, pool: small });
      await small.end();
      expect(journal.own('warn')).toEqual([expect.stringMatching(/pool has one connection.*Desk\.once/)]);
      await withDataSource(shared, { poolSize: 1 }, async (single) => {
        expect((await boot({ dataSource: single })).journal.own('warn')).toEqual([expect.stringMatching(/pool has one connection/)]);
      });
      expect((await boot({})).journal.own('warn')).toEqual([]);
    });
  });

  it('says nothing of keys, bodies or rows in the log, whatever happens', () => {
    const journal = new Journal();
    return within(
      async ({ url }) => {
        const [key, secret] = [newKey(), newKey()];
        await ours.set(key, 0);
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, secret);
          if (run === 1) await count(execution, key, () => ours.set(key, 10));
          if (run === 2) await execution.manager.query('select 1 / 0').catch(() => undefined);
          if (run === 3) await terminate(await backendOf(execution.manager));
          return { secret };
        });
        const statuses: number[] = [];
        for (let i = 0; i < 4; i++) {
          statuses.push((await script.send(`${url}/repeatable-read/once`, { key, body: { secret } })).status);
          await until(async () => (await shared.records(key)) === 0 || i === 3);
        }
        expect(statuses).toEqual([503, 500, 503, 201]);
        for (const word of [key, secret]) expect(journal.lines.filter((line) => line.includes(word))).toEqual([]);
      },
      { create: { logger: journal } },
    );
  });
});
