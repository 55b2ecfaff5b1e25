/** Phases that are never repeated, over failures, crashes and take-overs. */
import { describe, expect, it } from '@jest/globals';
import { ConflictException, Controller, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, write } from './support/desk.js';
import type { Played, Work } from './support/desk.js';
import { Stage, until } from './support/stage.js';
import { codeOf, isReplay, json } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

@Controller()
class Desk {
  @Idempotent()
  @Post('plain')
  plain(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ durableClaim: false })
  @Post('unflushed')
  unflushed(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ ttl: '48h' })
  @Post('two-days')
  twoDays(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }
}

const parts = { controllers: [Desk] } satisfies AppParts;
const failure = new Error('after the step');

/** Plays what a provider does: counts the calls, and remembers under which key. */
class Provider {
  readonly keys: string[] = [];

  readonly charge = ({ key }: { readonly key: string }): { number: number } => ({ number: this.keys.push(key) });
}

async function stepsOf(key: string): Promise<number> {
  const { rows } = await shared
    .database()
    .pool.query<{ n: number }>('select count(*)::int as n from idempotency_steps join idempotency_records using (id) where key = $1', [
      key,
    ]);
  return rows[0]!.n;
}

async function lose(key: string): Promise<void> {
  await shared.alter(key, `locked_until = now() - interval '1 second'`);
}

describe.each(PLATFORMS)('on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, options: AppParts['options'] = {}): Promise<void> =>
    shared.within(platform, { ...parts, options: { pool: undefined, dataSource: ours.dataSource(), ...options } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  describe.each(['plain', 'atomic'])('a step of an execution in %s mode', (mode) => {
    it('is taken once, whatever fails after it: the retry gets its result and goes on behind it', () =>
      within(async ({ url, app }) => {
        const [key, provider] = [newKey(), new Provider()];
        const service = app.get(IdempotencyService);
        const script = new Script(async ({ execution, run }) => {
          const charge = await execution.step('charge', provider.charge);
          if (run < 3) throw failure;
          return { charge, attempt: execution.attempt };
        });
        expect((await script.send(`${url}/${mode}`, { key })).status).toBe(500);
        expect(await service.find({ scope: '', key })).toMatchObject({ state: 'open', attempt: 1, steps: ['charge'] });
        expect((await script.send(`${url}/${mode}`, { key })).status).toBe(500);
        expect(await service.find({ scope: '', key })).toMatchObject({ state: 'open', attempt: 2 });
        const answer = await script.send(`${url}/${mode}`, { key });
        expect(json(answer)).toEqual({ charge: { number: 1 }, attempt: 3 });
        expect(provider.keys).toHaveLength(1);
        expect(isReplay(await script.send(`${url}/${mode}`, { key }))).toBe(true);
        expect(await service.find({ scope: '', key })).toMatchObject({ state: 'completed', steps: ['charge'] });
      }));

    it('has the same key for the foreign call in every attempt, and errors are not recorded', () =>
      within(async ({ url }) => {
        const key = newKey();
        const seen: string[] = [];
        const script = new Script(async ({ execution, run }) => {
          await execution.step('first', () => 'done');
          await execution.step('charge', ({ key: provider }) => {
            seen.push(provider);
            if (run < 3) throw failure;
          });
          return { same: execution.keyFor('charge') };
        });
        expect((await script.send(`${url}/${mode}`, { key })).status).toBe(500);
        expect((await script.send(`${url}/${mode}`, { key })).status).toBe(500);
        const answer = await script.send(`${url}/${mode}`, { key });
        expect(seen).toEqual(Array(3).fill((json(answer) as { same: string }).same));
        expect(seen[0]).toMatch(/^[\w-]{16,64}$/);
      }));

    it('is recorded before it resolves, for everybody to see', () =>
      within(async ({ url }) => {
        const key = newKey();
        let recorded = -1;
        const script = new Script(async ({ execution }) => {
          await execution.step('charge', () => 'done');
          recorded = await stepsOf(key);
          return {};
        });
        await script.send(`${url}/${mode}`, { key });
        expect(recorded).toBe(1);
      }));

    it('gives what its JSON gives, the first time as every other', () =>
      within(async ({ url }) => {
        const key = newKey();
        const at = new Date('2026-01-02T03:04:05Z');
        const seen: unknown[] = [];
        const script = new Script(async ({ execution, run }) => {
          seen.push([
            await execution.step('data', () => ({ at, gone: undefined, list: [1, undefined], deep: { text: 'ä\u2028"' } })),
            await execution.step('null', () => null),
            await execution.step('nothing', () => undefined),
            await execution.step('zero', async () => 0),
          ]);
          if (run === 1) throw failure;
          return {};
        });
        await script.send(`${url}/${mode}`, { key });
        await script.send(`${url}/${mode}`, { key });
        expect(seen).toStrictEqual(
          Array(2).fill([{ at: at.toISOString(), list: [1, null], deep: { text: 'ä\u2028"' } }, null, undefined, 0]),
        );
      }));

    it.each<[string, Work, RegExp]>([
      [
        'a name used twice',
        async ({ execution }) => {
          await execution.step('charge', () => 1);
          return execution.step('charge', () => 2);
        },
        /"charge" is used twice/,
      ],
      [
        'a name used twice at once',
        async ({ execution }) => {
          const first = execution.step('charge', () => stage.stopAt('never'));
          first.catch(() => undefined);
          try {
            return await execution.step('charge', () => 2);
          } finally {
            stage.open('never');
            await first;
          }
        },
        /"charge" is used twice/,
      ],
      [
        'a name used for a step and a transaction',
        async ({ execution }) => {
          await execution.step('both', () => 1);
          return execution.transaction('both', () => 2);
        },
        /"both" is used twice/,
      ],
      ['an empty name', ({ execution }) => execution.step('', () => 1), /1 to 200 characters/],
      ['too long a name', ({ execution }) => execution.step('x'.repeat(201), () => 1), /1 to 200 characters/],
      ['a name with control characters', ({ execution }) => execution.step('a\nb', () => 1), /no control characters/],
      [
        'a circular result',
        ({ execution }) =>
          execution.step('loop', () => {
            const loop: { self?: unknown } = {};
            loop.self = loop;
            return loop;
          }),
        /"loop" can't be written as JSON/,
      ],
      ['a BigInt', ({ execution }) => execution.step('big', () => 1n), /"big" can't be written as JSON/],
      ['a function', ({ execution }) => execution.step('code', () => () => 1), /"code" is a function/],
      ['too large a result', ({ execution }) => execution.step('large', () => 'x'.repeat(1024 * 1024)), /"large" has 1048578 bytes/],
    ])('refuses %s, clearly', (_, work, message) =>
      within(async ({ url }) => {
        let error: unknown;
        const script = new Script(async (scene) => {
          try {
            return await work(scene);
          } catch (thrown) {
            error = thrown;
            throw thrown;
          }
        });
        expect((await script.send(`${url}/${mode}`, { key: newKey() })).status).toBe(500);
        expect(error).toMatchObject({ code: 'IDEMPOTENCY_STEP_INVALID', message: expect.stringMatching(message) });
      }),
    );

    it('runs without a key, too, and nothing is recorded', () =>
      within(async ({ url }) => {
        const provider = new Provider();
        const script = new Script(async ({ execution }) => ({
          charge: await execution.step('charge', provider.charge),
          same: execution.keyFor('charge') === provider.keys.at(-1),
          row: await execution.transaction('row', () => 'written'),
        }));
        expect(json(await script.send(`${url}/${mode}`))).toEqual({ charge: { number: 1 }, same: true, row: 'written' });
        expect(json(await script.send(`${url}/${mode}`))).toEqual({ charge: { number: 2 }, same: true, row: 'written' });
        expect(provider.keys[0]).not.toBe(provider.keys[1]);
      }));
  });

  describe('an open key', () => {
    const opened = async (url: string, path = 'plain'): Promise<{ key: string; script: Script; provider: Provider }> => {
      const [key, provider] = [newKey(), new Provider()];
      const script = new Script(async ({ execution, run }) => {
        const charge = await execution.step('charge', provider.charge);
        if (run === 1) throw failure;
        return { charge, attempt: execution.attempt };
      });
      expect((await script.send(`${url}/${path}`, { key, body: { amount: 1 } })).status).toBe(500);
      return { key, script, provider };
    };

    it('keeps its fingerprint: another request is refused, and nothing is resumed', () =>
      within(async ({ url }) => {
        const { key, script } = await opened(url);
        expect(codeOf(await script.send(`${url}/plain`, { key, body: { amount: 2 } }))).toBe('IDEMPOTENCY_KEY_REUSED');
        expect(script.runs).toBe(1);
        expect(json(await script.send(`${url}/plain`, { key, body: { amount: 1 } }))).toEqual({ charge: { number: 1 }, attempt: 2 });
      }));

    it('lives for the route’s ttl, counted from its last failure', () =>
      within(async ({ url, app }) => {
        const { key } = await opened(url, 'two-days');
        const { expiresAt } = (await app.get(IdempotencyService).find({ scope: '', key }))!;
        const { rows } = await shared.database().pool.query<{ now: Date }>('select now()');
        const hours = (expiresAt!.getTime() - rows[0]!.now.getTime()) / 3_600_000;
        expect(hours).toBeGreaterThan(47.9);
        expect(hours).toBeLessThanOrEqual(48);
      }));

    it('is free when its time is over, and its steps are forgotten', () =>
      within(async ({ url }) => {
        const { key, script, provider } = await opened(url);
        await shared.alter(key, `expires_at = now() - interval '1 second'`);
        expect(json(await script.send(`${url}/plain`, { key, body: { amount: 2 } }))).toEqual({ charge: { number: 2 }, attempt: 1 });
        expect(provider.keys[0]).toBe(provider.keys[1]); // the other side decides what that means
        expect(await stepsOf(key)).toBe(1);
      }));

    it('can be freed by hand, and its steps are forgotten', () =>
      within(async ({ url, app }) => {
        const { key, script } = await opened(url);
        expect(await app.get(IdempotencyService).resolve({ scope: '', key }, 'free')).toBe(true);
        expect(await stepsOf(key)).toBe(0);
        expect(json(await script.send(`${url}/plain`, { key, body: { amount: 1 } }))).toEqual({ charge: { number: 2 }, attempt: 1 });
      }));

    it('is gone by forget and forgetScope, with its steps', () =>
      within(async ({ url, app }) => {
        const service = app.get(IdempotencyService);
        const { key: one } = await opened(url);
        expect(await service.forget({ scope: '', key: one })).toBe(true);
        const { key: two } = await opened(url);
        expect(await service.forgetScope('')).toBeGreaterThan(0);
        expect(await service.find({ scope: '', key: two })).toBeUndefined();
        const { rows } = await shared
          .database()
          .pool.query<{ n: number }>(
            'select count(*)::int as n from idempotency_steps where id not in (select id from idempotency_records)',
          );
        expect(rows[0]!.n).toBe(0);
      }));

    it('with a 4xx after a step is completed, not open', () =>
      within(async ({ url, app }) => {
        const [key, provider] = [newKey(), new Provider()];
        const script = new Script(async ({ execution }) => {
          await execution.step('charge', provider.charge);
          throw new ConflictException();
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(409);
        expect(await app.get(IdempotencyService).find({ scope: '', key })).toMatchObject({
          state: 'completed',
          status: 409,
          steps: ['charge'],
        });
      }));
  });

  it('a step survives the rollback of the atomic transaction around it, and the rows do not', () =>
    within(async ({ url }) => {
      const [key, provider] = [newKey(), new Provider()];
      const script = new Script(async ({ execution, run }) => {
        await write(execution.manager, key, `run ${run}`);
        const charge = await execution.step('charge', provider.charge);
        if (run === 1) throw failure;
        await write(execution.manager, key, `charged ${charge.number}`);
        return {};
      });
      expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
      expect([await ours.read(key), await stepsOf(key)]).toEqual([[], 1]);
      expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
      expect(await ours.read(key)).toEqual(['run 2', 'charged 1']);
    }));

  it('a transaction that the handler forgot to wait for vanishes when that fails before, and a retry’s is the only one', () =>
    within(async ({ url }) => {
      const key = newKey();
      let forgotten: Promise<unknown> | undefined;
      const script = new Script(async ({ execution, run }) => {
        const entry = execution.transaction('entry', async (manager) => {
          await write(manager, key, `run ${run}`);
          if (run === 1) await stage.stopAt(key);
        });
        if (run > 1) return entry;
        forgotten = entry.catch(({ code }: { code: unknown }) => code);
        await stage.reached(key);
        throw failure;
      });
      expect((await script.send(`${url}/plain`, { key })).status).toBe(500);
      stage.open(key);
      expect(await forgotten).toBe('IDEMPOTENCY_EXECUTION_SUPERSEDED');
      expect([await ours.read(key), await stepsOf(key), await shared.records(key)]).toEqual([[], 0, 0]);
      expect((await script.send(`${url}/plain`, { key })).status).toBe(201);
      expect(await ours.read(key)).toEqual(['run 2']);
    }));

  it('a transaction that commits while the handler fails keeps the key open: it is not run again', () =>
    within(async ({ url }) => {
      const [key, seat] = [newKey(), Math.floor(Math.random() * 1e9)];
      const { pool } = shared.database();
      const rival = await pool.connect();
      await rival.query('begin');
      await rival.query('insert into seats values ($1, $2)', [seat, 'a rival']); // whoever checks that seat waits for its end
      let entry: Promise<unknown> | undefined;
      const script = new Script(async ({ execution, run }) => {
        entry = execution.transaction('entry', (manager) => manager.query('insert into seats values ($1, $2)', [seat, key]));
        if (run > 1) return entry;
        const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
        await until(async () => (await pool.query(waiting)).rowCount === 1);
        void stage.stopAt(key);
        throw failure;
      });
      const first = script.send(`${url}/plain`, { key });
      await stage.reached(key);
      // Whatever the first one sends by itself is on its way when another request has come and gone.
      expect((await new Script(() => ({})).send(`${url}/plain`, { key: newKey() })).status).toBe(201);
      await rival.query('rollback');
      rival.release();
      expect((await first).status).toBe(500);
      await entry;
      expect([await stepsOf(key), await shared.records(key)]).toEqual([1, 1]);
      expect((await script.send(`${url}/plain`, { key })).status).toBe(201);
      const { rows } = await pool.query('select from seats where title = $1', [key]);
      expect(rows).toHaveLength(1);
    }));

  it('no work is begun for a claim that Postgres has forgotten: the call would be nobody’s', () =>
    within(async ({ url }) => {
      const [key, provider] = [newKey(), new Provider()];
      const script = new Script(async ({ execution, run }) => {
        if (run === 1) await shared.database().pool.query('delete from idempotency_records where key = $1', [key]);
        return execution.step('charge', provider.charge);
      });
      const answer = await script.send(`${url}/unflushed`, { key });
      expect([answer.status, provider.keys]).toEqual([409, []]);
      expect(json(await script.send(`${url}/unflushed`, { key }))).toEqual({ number: 1 });
    }));

  it('the claim of an execution that did not wait for the disk does so before its first step, once', async () => {
    const proxy = await startTcpProxy(shared.database().url);
    const pool = new Pool({ connectionString: proxy.url });
    try {
      await within(
        async ({ url }) => {
          const during: string[][] = [];
          const script = new Script(async ({ execution }) => {
            for (const name of ['one', 'two']) await execution.step(name, () => void during.push(proxy.statements.filter(isOurs)));
            return {};
          });
          expect((await script.send(`${url}/unflushed`, { key: newKey() })).status).toBe(201);
          expect(during[0]!.slice(-2)).toEqual(['idempotency_claim_unflushed', 'idempotency_flush']);
          expect(during[1]!.slice(-2)).toEqual(['idempotency_flush', 'idempotency_record_step']);
        },
        { dataSource: undefined, pool },
      );
    } finally {
      await pool.end();
      await proxy.close();
    }
  });

  describe('an owner that was superseded', () => {
    /** An execution that stalls until it is let go on, and then does `first`; whoever takes over just answers. */
    const stalling = (key: string, first: Work): { script: Script; outcome: Promise<unknown> } => {
      let fail!: (error: unknown) => void;
      let done!: (value: unknown) => void;
      const outcome = new Promise((resolve, reject) => ([done, fail] = [resolve, reject]));
      outcome.catch(() => undefined);
      const script = new Script(async (scene) => {
        if (scene.run > 1) return { run: scene.run };
        await stage.stopAt(key);
        try {
          done(await first(scene));
        } catch (error) {
          fail(error);
          throw error;
        }
        return {};
      });
      return { script, outcome };
    };

    it('can’t record a step: ExecutionSuperseded, and its client hears the new owner’s answer', () =>
      within(async (one) =>
        within(async (two) => {
          const key = newKey();
          const { script, outcome } = stalling(key, ({ execution }) => execution.step('charge', () => 'late'));
          const first = script.send(`${one.url}/plain`, { key });
          await stage.reached(key);
          await lose(key);
          expect(json(await script.send(`${two.url}/plain`, { key }))).toEqual({ run: 2 });
          stage.open(key);
          await expect(outcome).rejects.toMatchObject({ code: 'IDEMPOTENCY_EXECUTION_SUPERSEDED' });
          await first;
          expect(await stepsOf(key)).toBe(0);
        }),
      ));

    it('can’t commit a transaction either: its rows are rolled back', () =>
      within(async (one) =>
        within(async (two) => {
          const key = newKey();
          const { script, outcome } = stalling(key, ({ execution }) =>
            execution.transaction('rows', (manager) => write(manager, key, 'late')),
          );
          const first = script.send(`${one.url}/plain`, { key });
          await stage.reached(key);
          await lose(key);
          await script.send(`${two.url}/plain`, { key });
          stage.open(key);
          await expect(outcome).rejects.toMatchObject({ code: 'IDEMPOTENCY_EXECUTION_SUPERSEDED' });
          await first;
          expect(await ours.read(key)).toEqual([]);
        }),
      ));
  });

  describe('execution.transaction()', () => {
    it('in plain mode commits its rows with its result, at once, and is never repeated', () =>
      within(async ({ url }) => {
        const key = newKey();
        let seen: string[] = [];
        const script = new Script(async ({ execution, run }) => {
          const order = await execution.transaction('order', async (manager) => {
            await write(manager, key, `order ${run}`);
            expect(await ours.read(key)).toEqual([]);
            return { number: run, at: new Date(0) };
          });
          seen = await ours.read(key);
          if (run === 1) throw failure;
          return order;
        });
        expect((await script.send(`${url}/plain`, { key })).status).toBe(500);
        expect([seen, await stepsOf(key)]).toEqual([['order 1'], 1]);
        expect(json(await script.send(`${url}/plain`, { key }))).toEqual({ number: 1, at: new Date(0).toISOString() });
        expect(await ours.read(key)).toEqual(['order 1']);
      }));

    it('in plain mode leaves nothing when its work fails, and the next attempt may try it again', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await execution.transaction('order', async (manager) => {
            await write(manager, key, `order ${run}`);
            if (run === 1) throw failure;
          });
          return { run };
        });
        expect((await script.send(`${url}/plain`, { key })).status).toBe(500);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
        expect(json(await script.send(`${url}/plain`, { key }))).toEqual({ run: 2 });
        expect(await ours.read(key)).toEqual(['order 2']);
      }));

    it('in plain mode says so when the commit fails, and records nothing', () =>
      within(async ({ url }) => {
        const key = newKey();
        const seat = Math.floor(Math.random() * 1e9);
        let error: unknown;
        const script = new Script(async ({ execution }) => {
          await execution
            .transaction('seat', async (manager) => {
              await write(manager, key, 'seated');
              await manager.query('insert into seats values ($1, $2), ($1, $2)', [seat, key]);
            })
            .catch((thrown: unknown) => (error = thrown));
          return {};
        });
        expect((await script.send(`${url}/plain`, { key })).status).toBe(201);
        expect(error).toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_FAILED', status: 500 });
        expect([await ours.read(key), await stepsOf(key)]).toEqual([[], 0]);
      }));

    it('hands out a manager that throws once it is over', () =>
      within(async ({ url }) => {
        const key = newKey();
        let error: unknown;
        const script = new Script(async ({ execution }) => {
          const kept = await new Promise<{ query(text: string): Promise<unknown> }>((resolve) => {
            void execution.transaction('order', (manager) => resolve(manager));
          });
          await until(async () => (await stepsOf(key)) === 1);
          await kept.query('select 1').catch((thrown: unknown) => (error = thrown));
          return {};
        });
        expect((await script.send(`${url}/plain`, { key })).status).toBe(201);
        expect(error).toMatchObject({ code: 'IDEMPOTENCY_TRANSACTION_MISUSED' });
      }));

    it('in atomic mode is a savepoint: what fails is undone by itself, and the rest vanishes or commits with the whole', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await execution.transaction('order', (manager) => write(manager, key, `order ${run}`));
          await execution
            .transaction('mail', async (manager) => {
              await write(manager, key, `mail ${run}`);
              throw failure;
            })
            .catch(() => undefined);
          if (run === 1) throw failure;
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
        expect([await ours.read(key), await shared.records(key)]).toEqual([[], 0]);
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
        expect(await ours.read(key)).toEqual(['order 2']);
      }));

    it('without a key commits by itself', () =>
      within(async ({ url }) => {
        const title = newKey();
        const script = new Script(async ({ execution }) => {
          await execution.transaction('order', (manager) => write(manager, title, 'order'));
          throw failure;
        });
        expect((await script.send(`${url}/plain`)).status).toBe(500);
        expect(await ours.read(title)).toEqual(['order']);
      }));
  });
});

const isOurs = (statement: string): boolean => statement.startsWith('idempotency_');
