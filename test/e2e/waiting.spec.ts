/** Requests that wait for the answer of the one that is running, in this process and elsewhere. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Post, UnprocessableEntityException } from '@nestjs/common';
import { Agent } from 'node:http';
import { Client, Pool } from 'pg';
import { CurrentExecution, Idempotent, IdempotencyEvents, IdempotencyService } from '../../lib/index.js';
import type { IdempotencyEvent, IdempotentExecution } from '../../lib/index.js';
import { channelOf, tablesIn } from '../../lib/store/table-name.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { essence } from './support/replays.js';
import { Stage, until } from './support/stage.js';
import { codeOf, field, isReplay, json, send } from './support/wire.js';
import type { Answer, Sent } from './support/wire.js';

const shared = bench();
const ours = books(shared);
const stage = new Stage();

@Controller()
class Desk {
  @Idempotent({ onDuplicate: 'wait', waitTimeout: '1m' })
  @Post('waits')
  waits(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ onDuplicate: 'wait', waitTimeout: 100 })
  @Post('waits-briefly')
  waitsBriefly(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent({ onDuplicate: 'wait', waitTimeout: '1m', atomic: true })
  @Post('atomic')
  atomic(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Idempotent()
  @Post('rejects')
  rejects(@CurrentExecution() execution: IdempotentExecution, @Play() script: Played): unknown {
    return script.by(execution);
  }

  @Post('unrelated')
  unrelated(): object {
    return { ok: true };
  }
}

const parts = { controllers: [Desk] } satisfies AppParts;

/** A handler that waits to be let go on, and then answers with its run. */
const slow = (key: string, ends: (run: number) => unknown = (run) => ({ run })): Script =>
  new Script(async ({ run }) => {
    await stage.stopAt(`${key} ${run}`);
    return ends(run);
  });

const many = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

describe.each(PLATFORMS)('waiting on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, options: AppParts['options'] = {}): Promise<void> =>
    shared.within(platform, { ...parts, options: { pool: undefined, dataSource: ours.dataSource(), ...options } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  /** An application whose module's statements can be counted. */
  const counted = async (
    work: (app: RunningApp, statements: () => readonly string[]) => Promise<void>,
    options: AppParts['options'] = {},
  ): Promise<void> => {
    const proxy = await startTcpProxy(shared.database().url);
    const pool = new Pool({ connectionString: proxy.url });
    const statements = (): readonly string[] => proxy.statements.filter((statement) => statement.startsWith('idempotency_'));
    try {
      await within((app) => work(app, statements), { ...options, dataSource: undefined, pool });
    } finally {
      await pool.end();
      await proxy.close();
    }
  };

  /** Resolves when `count` requests are in a handler's queue: the one that runs and those that wait, as far as the server can tell. */
  async function inFlight(app: RunningApp, count: number): Promise<void> {
    const server = app.app.getHttpServer() as { getConnections(done: (error: Error | null, count: number) => void): void };
    await until(() => new Promise((resolve) => server.getConnections((_, open) => resolve(open >= count))));
  }

  it('a hundred at once for one key: it runs once, everybody gets the same bytes, few statements, and others don’t notice', () =>
    counted(async (app, statements) => {
      const key = newKey();
      const script = slow(key);
      const storm = many(100, () => script.send(`${app.url}/waits`, { key, body: { amount: 1 } }));
      await stage.reached(`${key} 1`);
      await inFlight(app, 100);
      expect((await send(`${app.url}/unrelated`)).status).toBe(201);
      stage.open(`${key} 1`);
      const answers = await Promise.all(storm);
      expect(script.runs).toBe(1);
      expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
      for (const answer of answers) expect(essence(answer)).toEqual(essence(answers[0]!));
      expect(statements().filter((name) => name !== 'idempotency_inspect').length).toBeLessThan(20);
    }));

  it('gets the replay where the first one runs in another process', () =>
    within((one) =>
      within(async (two) => {
        const key = newKey();
        const script = slow(key);
        const first = script.send(`${one.url}/waits`, { key });
        await stage.reached(`${key} 1`);
        const others = many(20, () => script.send(`${two.url}/waits`, { key }));
        await inFlight(two, 20);
        stage.open(`${key} 1`);
        const answer = await first;
        for (const other of await Promise.all(others)) expect([isReplay(other), essence(other)]).toEqual([true, essence(answer)]);
        expect(script.runs).toBe(1);
      }),
    ));

  describe('for an execution of another process', () => {
    const rowCount = async (text: string): Promise<number> => (await shared.database().pool.query(text)).rowCount ?? 0;
    const ears = (): Promise<number> =>
      rowCount(`
        select from pg_locks
         where locktype = 'advisory' and mode = 'ShareLock'
           and database = (select oid from pg_database where datname = current_database())`);
    const LISTENING = `from pg_stat_activity where datname = current_database() and query ~ 'advisory_(un)?lock_shared' and pid <> pg_backend_pid()`;
    const listeners = (): Promise<number> => rowCount(`select ${LISTENING}`);

    /** What is told to whoever listens, while `work` is done. */
    const told = async (work: () => Promise<void>): Promise<string[]> => {
      const payloads: string[] = [];
      const client = new Client({ connectionString: shared.database().url });
      await client.connect();
      client.on('notification', ({ payload }) => payloads.push(payload ?? ''));
      const channel = channelOf(tablesIn('public').records);
      try {
        await client.query(`listen ${channel}`);
        await work();
        await client.query(`notify ${channel}, 'the last one'`);
        await until(() => payloads.includes('the last one'));
        return payloads.slice(0, -1);
      } finally {
        await client.end();
      }
    };

    it.each(['waits', 'atomic'])('is told of its end, and nobody is told where nobody waits (%s)', (path) =>
      within((one) =>
        within(async (two) => {
          const [lonely, key] = [newKey(), newKey()];
          const payloads = await told(async () => {
            expect((await new Script(() => 'quick').send(`${one.url}/${path}`, { key: lonely })).status).toBe(201);
            const script = slow(key);
            const first = script.send(`${one.url}/${path}`, { key });
            await stage.reached(`${key} 1`);
            const others = many(5, () => script.send(`${two.url}/${path}`, { key }));
            await until(async () => (await ears()) === 1);
            stage.open(`${key} 1`);
            await first;
            expect((await Promise.all(others)).map(isReplay)).toEqual(many(5, () => true));
          });
          const { rows } = await shared.database().pool.query('select id from idempotency_records where key = $1', [key]);
          expect(payloads).toEqual(rows.map(({ id }) => id as string));
          await until(async () => (await ears()) === 0);
          expect(await listeners()).toBe(1); // somebody else may wait soon
          await two.app.close();
          await until(async () => (await listeners()) === 0);
        }),
      ),
    );

    it('gets its answer all the same when the connection is killed on which it would be told', () =>
      within((one) =>
        within(async (two) => {
          const key = newKey();
          const script = slow(key);
          const first = script.send(`${one.url}/waits`, { key });
          await stage.reached(`${key} 1`);
          const waiter = script.send(`${two.url}/waits`, { key });
          await until(async () => (await ears()) === 1);
          expect(await rowCount(`select pg_terminate_backend(pid) ${LISTENING}`)).toBe(1);
          await until(async () => (await ears()) === 0);
          stage.open(`${key} 1`);
          await first;
          expect(isReplay(await waiter)).toBe(true);
        }),
      ));

    it('costs a few statements more, once, and one for every further key, however many wait', () =>
      within((one) =>
        counted(async (two, statements) => {
          const waitElsewhere = async (): Promise<string[]> => {
            const [key, before] = [newKey(), statements().length];
            const script = slow(key);
            const first = script.send(`${one.url}/waits`, { key });
            await stage.reached(`${key} 1`);
            const others = many(20, () => script.send(`${two.url}/waits`, { key }));
            await inFlight(two, 20);
            await until(async () => (await ears()) === 1);
            stage.open(`${key} 1`);
            await Promise.all([first, ...others]);
            // How often one of them looks is a matter of time.
            return statements()
              .slice(before)
              .filter((name) => name !== 'idempotency_claim');
          };
          expect((await waitElsewhere()).filter((name) => name !== 'idempotency_inspect')).toEqual([
            'idempotency_is_direct', // a lock of a session must be ours to give back
            'idempotency_listen',
            'idempotency_attend',
          ]);
          expect(await waitElsewhere()).toEqual(['idempotency_attend']); // it gives the first lock back on its way
        }),
      ));
  });

  it.each(['waits', 'atomic'])('lets exactly one take over when the first one fails, and the others get its answer (%s)', (path) =>
    within(async (app) => {
      const key = newKey();
      const script = slow(key, (run) => {
        if (run === 1) throw new Error('the first one fails');
        return { run };
      });
      const first = script.send(`${app.url}/${path}`, { key });
      await stage.reached(`${key} 1`);
      const others = many(20, () => script.send(`${app.url}/${path}`, { key }));
      await inFlight(app, 21);
      stage.open(`${key} 1`);
      expect((await first).status).toBe(500);
      await stage.reached(`${key} 2`);
      stage.open(`${key} 2`);
      const answers = await Promise.all(others);
      expect(script.runs).toBe(2);
      expect(answers.map(json)).toEqual(answers.map(() => ({ run: 2 })));
      expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
    }),
  );

  it('lets one of another process take over as well', () =>
    within((one) =>
      within(async (two) => {
        const key = newKey();
        const script = slow(key, (run) => {
          if (run === 1) throw new Error('the first one fails');
          return { run };
        });
        const first = script.send(`${one.url}/waits`, { key });
        await stage.reached(`${key} 1`);
        const others = [one, two, two, one].map(({ url }) => script.send(`${url}/waits`, { key }));
        await inFlight(two, 2);
        await inFlight(one, 3);
        stage.open(`${key} 1`);
        await first;
        await stage.reached(`${key} 2`);
        stage.open(`${key} 2`);
        expect((await Promise.all(others)).map(json)).toEqual(others.map(() => ({ run: 2 })));
        expect(script.runs).toBe(2);
      }),
    ));

  it('takes over what a crash has left, when its lease is over', () =>
    within(async ({ url, app }) => {
      const key = newKey();
      const script = slow(key);
      await within(async (other) => {
        const lost = script.send(`${other.url}/waits`, { key }).catch(() => undefined);
        await stage.reached(`${key} 1`);
        const waiter = script.send(`${url}/waits`, { key });
        await until(async () => (await app.get(IdempotencyService).find({ scope: '', key }))?.state === 'running');
        await shared.alter(key, `locked_until = now() - interval '1 second', owner = gen_random_uuid()`);
        await stage.reached(`${key} 2`);
        stage.openAll();
        expect(json(await waiter)).toEqual({ run: 2 });
        await lost;
      });
    }));

  it('refuses another request with the same key at once', () =>
    within(async ({ url }) => {
      const key = newKey();
      const script = slow(key);
      const first = script.send(`${url}/waits`, { key, body: { amount: 1 } });
      await stage.reached(`${key} 1`);
      expect(codeOf(await script.send(`${url}/waits`, { key, body: { amount: 2 } }))).toBe('IDEMPOTENCY_KEY_REUSED');
      stage.open(`${key} 1`);
      await first;
    }));

  describe('no longer than it may', () => {
    /** Asks while another one runs. */
    const asking = async (url: string, path: string, headers: Record<string, string> = {}): Promise<Answer> => {
      const key = newKey();
      const script = slow(key);
      const first = script.send(`${url}/${path}`, { key });
      await stage.reached(`${key} 1`);
      const answer = await script.send(`${url}/${path}`, { key, headers });
      stage.open(`${key} 1`);
      expect((await first).status).toBe(201);
      expect(script.runs).toBe(1);
      return answer;
    };
    const expectInUse = (answer: Answer, applied: string | undefined): void =>
      expect([answer.status, codeOf(answer), field(answer, 'retry-after'), field(answer, 'preference-applied')]).toEqual([
        409,
        'IDEMPOTENCY_KEY_IN_USE',
        '1',
        applied,
      ]);

    it('waitTimeout is 409', () => within(async ({ url }) => expectInUse(await asking(url, 'waits-briefly'), undefined)));

    it.each([
      ['wait=0', 'wait=0'],
      ['wait=1', 'wait=1'],
      ['respond-async, wait=0', 'wait=0'],
      ['wait=0; foo=bar', 'wait=0'],
    ])('Prefer: %s is honoured, and said to be', (prefer, applied) =>
      within(async ({ url }) => expectInUse(await asking(url, 'waits', { prefer }), applied)),
    );

    it('Prefer: wait never makes a wait longer', () =>
      within(async ({ url }) => expectInUse(await asking(url, 'waits-briefly', { prefer: 'wait=600' }), 'wait=600')));

    it.each(['wait=soon', 'wait=-1', 'wait=0.5', 'wait', '%%%'])('Prefer: %s, which can’t be read, is ignored', (prefer) =>
      within(async ({ url }) => expectInUse(await asking(url, 'waits-briefly', { prefer }), undefined)),
    );

    it('Prefer: wait does nothing where duplicates are rejected', () =>
      within(async ({ url }) => expectInUse(await asking(url, 'rejects', { prefer: 'wait=600' }), undefined)));

    it('a preference that was honoured is said with the replay as well, and not kept in it', () =>
      within(async (app) => {
        const { url } = app;
        const key = newKey();
        const script = slow(key);
        const first = script.send(`${url}/waits`, { key, headers: { prefer: 'wait=7' } });
        await stage.reached(`${key} 1`);
        const waiter = script.send(`${url}/waits`, { key, headers: { prefer: 'wait=30' } });
        await inFlight(app, 2);
        stage.open(`${key} 1`);
        await first;
        const answer = await waiter;
        expect([isReplay(answer), field(answer, 'preference-applied')]).toEqual([true, 'wait=30']);
        expect(field(await script.send(`${url}/waits`, { key }), 'preference-applied')).toBeUndefined();
      }));
  });

  it('no more than maxWaiters wait: the next one is refused at once, and has a place when one is free', () =>
    within(
      async (app) => {
        const key = newKey();
        const script = slow(key);
        const rejected: IdempotencyEvent[] = [];
        app.app.get(IdempotencyEvents).events$.subscribe((event) => event.type === 'rejected' && rejected.push(event));
        const first = script.send(`${app.url}/waits`, { key });
        await stage.reached(`${key} 1`);
        const asked = many(5, () => script.send(`${app.url}/waits`, { key }));
        await until(() => rejected.length === 2);
        stage.open(`${key} 1`);
        const answers = await Promise.all(asked);
        expect(answers.filter(isReplay)).toHaveLength(3);
        expect(answers.filter((answer) => answer.status === 409).map(codeOf)).toEqual(many(2, () => 'IDEMPOTENCY_KEY_IN_USE'));
        await first;
        expect((await script.send(`${app.url}/waits`, { key })).status).toBe(201);
      },
      { maxWaiters: 3 },
    ));

  /** Runs `work` with a request that waits in `two` for what runs in `one`: it has come back from the store and asks again. */
  const waitingElsewhere = (
    options: AppParts['options'],
    work: (given: {
      two: RunningApp;
      looks(): number;
      ask(): Promise<Answer>;
      leave(): void;
      waiter: Promise<Answer>;
      finish(): Promise<void>;
    }) => Promise<void>,
  ): Promise<void> =>
    within((one) =>
      counted(async (two, statements) => {
        const key = newKey();
        const script = slow(key);
        const first = script.send(`${one.url}/waits`, { key });
        await stage.reached(`${key} 1`);
        const looks = (): number => statements().filter((name) => name === 'idempotency_claim').length;
        const agent = new Agent();
        const ask = (more: Sent = {}): Promise<Answer> => script.send(`${two.url}/waits`, { key, ...more });
        const waiter = ask({ agent });
        waiter.catch(() => undefined);
        await until(() => looks() >= 2);
        const finish = async (): Promise<void> => {
          stage.open(`${key} 1`);
          expect((await first).status).toBe(201);
          expect(script.runs).toBe(1);
        };
        await work({ two, looks, ask, leave: () => agent.destroy(), waiter, finish });
      }, options),
    );

  it('whose client has gone is gone: its place is free', () =>
    waitingElsewhere({ maxWaiters: 1 }, async ({ ask, looks, leave, waiter, finish }) => {
      expect(codeOf(await ask())).toBe('IDEMPOTENCY_KEY_IN_USE');
      leave();
      await expect(waiter).rejects.toThrow('hang up');
      let refusals = 0;
      const next = (async () => {
        for (;;) {
          const answer = await ask();
          if (answer.status !== 409) return answer;
          refusals += 1;
        }
      })();
      // Somebody who has a place asks again and again without being refused meanwhile.
      for (let [seen, since] = [refusals, looks()]; looks() < since + 4;) {
        await until(() => refusals !== seen || looks() >= since + 4);
        if (refusals !== seen) [seen, since] = [refusals, looks()];
      }
      await finish();
      expect(isReplay(await next)).toBe(true);
    }));

  it('ends with the application: 409, and it does not wait for the answer', () =>
    waitingElsewhere({}, async ({ two, waiter, finish }) => {
      const rejected = new Promise<IdempotencyEvent>((resolve) =>
        two.app.get(IdempotencyEvents).events$.subscribe((event) => event.type === 'rejected' && resolve(event)),
      );
      await two.app.close();
      expect(await rejected).toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
      expect(codeOf(await waiter)).toBe('IDEMPOTENCY_KEY_IN_USE');
      await finish();
    }));

  it('works with rows that a transaction holds, and gets their answer', () =>
    within((one) =>
      within(async (two) => {
        const key = newKey();
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, `run ${run}`);
          await stage.stopAt(key);
          if (run === 1) return { run };
          throw new UnprocessableEntityException();
        });
        const first = script.send(`${one.url}/atomic`, { key });
        await stage.reached(key);
        const waiters = [one, two, two].map(({ url }) => script.send(`${url}/atomic`, { key }));
        await inFlight(two, 2);
        stage.open(key);
        expect((await first).status).toBe(201);
        for (const waiter of await Promise.all(waiters)) expect([isReplay(waiter), json(waiter)]).toEqual([true, { run: 1 }]);
        expect(await ours.read(key)).toEqual(['run 1']);
      }),
    ));

  it('waits for no answer that there will never be: a sealed one is refused', () =>
    within(async (app) => {
      const key = newKey();
      const script = slow(key, () => 'x'.repeat(2 * 1024 * 1024));
      const first = script.send(`${app.url}/waits`, { key });
      await stage.reached(`${key} 1`);
      const waiter = script.send(`${app.url}/waits`, { key });
      await inFlight(app, 2);
      stage.open(`${key} 1`);
      expect((await first).status).toBe(201);
      expect(codeOf(await waiter)).toBe('IDEMPOTENCY_RESULT_NOT_REPLAYABLE');
    }));
});
