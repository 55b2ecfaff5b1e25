/** What handlers write with: the transaction's own manager and client, and what becomes of them afterwards. */
import { describe, expect, it } from '@jest/globals';
import { ConflictException, Controller, Get, Injectable, Post } from '@nestjs/common';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import type { DataSource } from 'typeorm';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, withDataSource, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Stage } from './support/stage.js';
import { json, send } from './support/wire.js';

@Entity('books')
class Book {
  @PrimaryGeneratedColumn()
  id!: number;

  @Column('text')
  title!: string;

  @Column('text')
  line!: string;
}

const shared = bench();
const ours = books(shared, { entities: [Book] });
const stage = new Stage();

/** A service far below the handler, which knows nothing of executions. */
@Injectable()
class Scribe {
  constructor(private readonly idempotency: IdempotencyService) {}

  write(title: string, line: string): Promise<unknown> {
    return this.idempotency.manager.save(Book, { title, line });
  }

  get writesApart(): boolean {
    return this.idempotency.manager.queryRunner === undefined;
  }
}

@Controller()
class Desk {
  constructor(private readonly scribe: Scribe) {}

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

  @Get('outside')
  outside(): object {
    return { apart: this.scribe.writesApart };
  }
}

const MISUSED = { code: 'IDEMPOTENCY_TRANSACTION_MISUSED' };

const parts = { controllers: [Desk], providers: [Scribe] } satisfies AppParts;

describe.each(PLATFORMS)('within an atomic handler on %s', (platform) => {
  const within = (work: (app: RunningApp) => Promise<void>, options: AppParts['options'] = {}): Promise<void> =>
    shared.within(platform, { ...parts, options: { pool: undefined, dataSource: ours.dataSource(), ...options } }, (app) =>
      work(app).finally(() => stage.openAll()),
    );

  /** Plays it once on an application whose pool has one connection, so that whoever comes next is on the same one. */
  const onOneConnection = (work: (url: string, dataSource: DataSource) => Promise<void>): Promise<void> =>
    withDataSource(shared, { poolSize: 1, entities: [Book] }, (dataSource) => within(({ url }) => work(url, dataSource), { dataSource }));

  describe('the manager', () => {
    it('writes into the transaction by whatever way: query, repository, builder, save', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution: { manager }, run }) => {
          await manager.query('insert into books (title, line) values ($1, $2)', [key, 'query']);
          await manager.getRepository(Book).save({ title: key, line: 'repository' });
          await manager.createQueryBuilder().insert().into(Book).values({ title: key, line: 'builder' }).execute();
          await manager.save(Book, { title: key, line: 'save' });
          const seen = await manager.countBy(Book, { title: key });
          if (run === 1) throw new Error('again');
          return { seen };
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
        expect(await ours.read(key)).toEqual([]);
        expect(json(await script.send(`${url}/atomic`, { key }))).toEqual({ seen: 4 });
        expect(await ours.read(key)).toEqual(['query', 'repository', 'builder', 'save']);
      }));

    it('nests: an inner transaction is a part that can be undone by itself', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution: { manager } }) => {
          await write(manager, key, 'before');
          await manager.transaction((inner) => write(inner, key, 'inner'));
          await manager
            .transaction(async (inner) => {
              await write(inner, key, 'undone');
              await inner.transaction((innermost) => write(innermost, key, 'undone too'));
              await inner.query('select 1 / 0');
            })
            .catch(() => undefined);
          await write(manager, key, 'after');
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
        expect(await ours.read(key)).toEqual(['before', 'inner', 'after']);
      }));

    it.each<[string, (execution: IdempotentExecution) => unknown]>([
      ['COMMIT by query', ({ manager }) => manager.query('COMMIT')],
      ['ROLLBACK behind a comment', ({ manager }) => manager.query('/* enough */ -- now\n rollback')],
      ['END by the client', ({ client }) => client.query('end')],
      ['COMMIT by the query runner', ({ manager }) => manager.queryRunner?.commitTransaction()],
      ['ROLLBACK by the query runner', ({ manager }) => manager.queryRunner?.rollbackTransaction()],
      ['release of the connection', ({ manager }) => manager.queryRunner?.release()],
    ])('can’t end the transaction (%s): that is refused, and it goes on', (_, end) =>
      within(async ({ url }) => {
        const key = newKey();
        let refusal: unknown;
        const script = new Script(async ({ execution, run }) => {
          await write(execution.manager, key, 'before');
          await (async () => end(execution))().catch((error: unknown) => (refusal = error));
          await write(execution.manager, key, 'after');
          if (run === 1) throw new Error('again');
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
        expect([refusal, await ours.read(key)]).toEqual([expect.objectContaining(MISUSED), []]);
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
        expect(await ours.read(key)).toEqual(['before', 'after']);
      }),
    );

    it('may set and go back to savepoints of its own', () =>
      within(async ({ url }) => {
        const key = newKey();
        const script = new Script(async ({ execution: { client } }) => {
          await client.query('savepoint mine');
          await write(client, key, 'undone');
          await client.query('rollback to mine');
          await write(client, key, 'kept');
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
        expect(await ours.read(key)).toEqual(['kept']);
      }));
  });

  describe('once it has ended', () => {
    const waysToWrite: [string, (execution: IdempotentExecution, title: string) => () => Promise<unknown>][] = [
      [
        'the manager, kept in a variable',
        ({ manager }, title) =>
          () =>
            write(manager, title, 'late'),
      ],
      [
        'the client, kept in a variable',
        ({ client }, title) =>
          () =>
            write(client, title, 'late'),
      ],
      [
        'a repository of it',
        ({ manager }, title) => {
          const repository = manager.getRepository(Book);
          return () => repository.save({ title, line: 'late' });
        },
      ],
      [
        'a query builder of it',
        ({ manager }, title) => {
          const builder = manager.createQueryBuilder().insert().into(Book).values({ title, line: 'late' });
          return () => builder.execute();
        },
      ],
      [
        'a transaction of it',
        ({ manager }, title) =>
          () =>
            manager.transaction((inner) => write(inner, title, 'late')),
      ],
      ['the execution itself', (execution, title) => async () => write(execution.manager, title, 'late')],
      [
        'its query runner',
        ({ manager }, title) => {
          const { queryRunner } = manager;
          return async () => queryRunner?.query('insert into books (title, line) values ($1, $2)', [title, 'late']);
        },
      ],
    ];

    it.each(waysToWrite)('%s throws, and writes nothing into the transaction that has the connection now', (_, keep) =>
      onOneConnection(async (url) => {
        const [key, other] = [newKey(), newKey()];
        let late: (() => Promise<unknown>) | undefined;
        const careless = new Script(async ({ execution }) => {
          late = keep(execution, other);
          await write(execution.manager, key, 'in time');
          return {};
        });
        const next = new Script(async ({ execution: { manager } }) => {
          await write(manager, other, 'before');
          await stage.stopAt(other);
          await write(manager, other, 'after');
          return {};
        });
        expect((await careless.send(`${url}/atomic`, { key })).status).toBe(201);
        const nexts = next.send(`${url}/atomic`, { key: other });
        await stage.reached(other);
        await expect(late!()).rejects.toMatchObject(MISUSED);
        stage.open(other);
        expect((await nexts).status).toBe(201);
        expect([await ours.read(key), await ours.read(other)]).toEqual([['in time'], ['before', 'after']]);
      }),
    );

    it('by a throw, too, a forgotten await can’t write any more', () =>
      onOneConnection(async (url, dataSource) => {
        const key = newKey();
        let forgotten: Promise<unknown> | undefined;
        const script = new Script(async ({ execution: { manager } }) => {
          forgotten = stage.stopAt(key).then(() => write(manager, key, 'forgotten'));
          forgotten.catch(() => undefined);
          throw new ConflictException();
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(409);
        stage.open(key);
        await expect(forgotten).rejects.toMatchObject(MISUSED);
        expect(await ours.read(key)).toEqual([]);
        expect(await dataSource.manager.countBy(Book, { title: key })).toBe(0);
      }));

    it('writes that were under way and not awaited are part of it or refused, and never outside', () =>
      within(async ({ url }) => {
        const key = newKey();
        const fates: Promise<string>[] = [];
        const script = new Script(({ execution: { manager } }) => {
          let last: Promise<unknown> = Promise.resolve();
          for (let i = 0; i < 5; i++) {
            const writing = last.then(() => write(manager, key, String(i)));
            last = writing.catch(() => undefined);
            fates.push(
              writing.then(
                () => 'written',
                () => 'refused',
              ),
            );
          }
          throw new ConflictException();
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(409);
        await Promise.all(fates);
        expect(await ours.read(key)).toEqual([]);
      }));
  });

  describe('a step', () => {
    it('keeps the transaction out of its work, by every door, and not before and after', () =>
      within(async ({ url, app }) => {
        const key = newKey();
        const service = app.get(IdempotencyService);
        const refusals: unknown[] = [];
        const script = new Script(async ({ execution }) => {
          const { manager, client } = execution;
          const repository = manager.getRepository(Book);
          await write(execution.manager, key, 'before');
          await execution.step('charge', async () => {
            for (const door of [
              () => execution.manager.query('select 1'),
              () => execution.client.query('select 1'),
              () => service.manager.query('select 1'),
              () => manager.query('select 1'),
              () => client.query('select 1'),
              () => repository.count(),
              () => manager.transaction(async () => undefined),
            ]) {
              refusals.push(
                await (async () => door())().then(
                  () => 'went through',
                  (error: Error) => error.message,
                ),
              );
            }
            return {};
          });
          await write(execution.manager, key, 'after');
          return {};
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(201);
        expect(refusals).toEqual(Array(7).fill(expect.stringContaining("within a step's work")));
        expect(await ours.read(key)).toEqual(['before', 'after']);
      }));
  });

  describe('IdempotencyService.manager', () => {
    it('is the transaction’s own, far below the handler', () =>
      within(async ({ url, app }) => {
        const key = newKey();
        const scribe = app.get(Scribe);
        const script = new Script(async ({ execution, run }) => {
          await scribe.write(key, `run ${run}`);
          const same = app.get(IdempotencyService).manager === execution.manager;
          if (run === 1) throw new Error('again');
          return { same };
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
        expect(await ours.read(key)).toEqual([]);
        expect(json(await script.send(`${url}/atomic`, { key }))).toEqual({ same: true });
        expect(await ours.read(key)).toEqual(['run 2']);
      }));

    it('is the DataSource’s own elsewhere: outside of requests, on other routes and in plain mode', () =>
      within(async ({ url, app }) => {
        expect(app.get(IdempotencyService).manager).toBe(ours.dataSource().manager);
        expect(json(await send(`${url}/outside`, { method: 'GET' }))).toEqual({ apart: true });
        const script = new Script(() => ({ apart: app.get(IdempotencyService).manager === ours.dataSource().manager }));
        expect(json(await script.send(`${url}/plain`, { key: newKey() }))).toEqual({ apart: true });
      }));
  });

  it('without atomic mode there is no transaction: manager and client say what to do', () =>
    within(async ({ url }) => {
      const script = new Script(({ execution }) => {
        const said = [() => execution.manager, () => execution.client].map((door) => {
          try {
            return door() && 'nothing';
          } catch (error) {
            return (error as Error).message;
          }
        });
        return { said };
      });
      expect(json(await script.send(`${url}/plain`, { key: newKey() }))).toEqual({
        said: Array(2).fill(expect.stringContaining('atomic: true')),
      });
    }));

  it('with a pg pool there is a client, and no manager, which says so', () =>
    within(
      async ({ url, app }) => {
        const key = newKey();
        const said: string[] = [];
        const script = new Script(async ({ execution, run }) => {
          await write(execution.client, key, `run ${run}`);
          for (const door of [() => execution.manager, () => app.get(IdempotencyService).manager]) {
            try {
              door();
            } catch (error) {
              said.push((error as Error).message);
            }
          }
          const { rows, rowCount } = await execution.client.query<{ line: string }>('select line from books where title = $1', [key]);
          if (run === 1) throw new ConflictException();
          return { rows, rowCount };
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(409);
        expect(await ours.read(key)).toEqual([]);
        const other = newKey();
        expect(json(await script.send(`${url}/atomic`, { key: other }))).toEqual({ rows: [{ line: 'run 2' }], rowCount: 1 });
        expect(said).toEqual(Array(4).fill(expect.stringContaining('pg pool')));
      },
      { dataSource: undefined, pool: shared.database().pool },
    ));
});
