/** Injected repositories in atomic handlers, with and without `joinRepositories`. */
import { describe, expect, it } from '@jest/globals';
import { Controller, Inject, Injectable, Post } from '@nestjs/common';
import type { INestApplication, Provider } from '@nestjs/common';
import { Column, Entity, PrimaryGeneratedColumn, Repository } from 'typeorm';
import type { DataSource } from 'typeorm';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { AppParts, RunningApp } from '../support/app.js';
import { bench, newKey } from './support/bench.js';
import { Play, Script, books, connect, write } from './support/desk.js';
import type { Played } from './support/desk.js';
import { Stage } from './support/stage.js';
import { json } from './support/wire.js';

@Entity('books')
class Book {
  @PrimaryGeneratedColumn()
  id!: number;

  @Column('text')
  title!: string;

  @Column('text')
  line!: string;
}

/** As applications extend them. */
class Library extends Repository<Book> {
  linesOf(title: string): Promise<number> {
    return this.createQueryBuilder('book').where('book.title = :title', { title }).getCount();
  }
}

@Injectable()
class Scribe {
  constructor(
    @Inject('BOOKS') readonly books: Repository<Book>,
    @Inject('LIBRARY') readonly library: Library,
    @Inject('ELSEWHERE') readonly elsewhere: Repository<Book>,
  ) {}
}

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

const shared = bench();
const ours = books(shared);
const stage = new Stage();

interface Cast {
  readonly app: INestApplication;
  readonly url: string;
  readonly scribe: Scribe;
  /** How the repositories looked before the application began. */
  readonly before: readonly (PropertyDescriptor | undefined)[];
}

const looksOf = (scribe: Pick<Scribe, 'books' | 'library' | 'elsewhere'>): (PropertyDescriptor | undefined)[] =>
  [scribe.books, scribe.library, scribe.elsewhere].map((repository) => Object.getOwnPropertyDescriptor(repository, 'manager'));

describe.each(PLATFORMS)('repositories on %s', (platform) => {
  const cast = async (joinRepositories: boolean | undefined, work: (cast: Cast) => Promise<void>): Promise<void> => {
    const [own, foreign] = await Promise.all(
      [1, 2].map(() => connect(shared.database().url, { entities: [Book] })) as [Promise<DataSource>, Promise<DataSource>],
    );
    const repositories = {
      books: own.getRepository(Book),
      library: new Library(Book, own.manager),
      elsewhere: foreign.getRepository(Book),
    };
    const before = looksOf(repositories);
    const providers: Provider[] = [
      Scribe,
      { provide: 'BOOKS', useValue: repositories.books },
      { provide: 'LIBRARY', useFactory: () => repositories.library },
      { provide: 'ELSEWHERE', useValue: repositories.elsewhere },
    ];
    const options: AppParts['options'] = {
      pool: undefined,
      dataSource: own,
      ...(joinRepositories === undefined ? {} : { joinRepositories }),
    };
    try {
      await shared.within(platform, { controllers: [Desk], providers, options }, ({ app, url }: RunningApp) =>
        work({ app, url, scribe: app.get(Scribe), before }).finally(() => stage.openAll()),
      );
    } finally {
      await Promise.all([own.destroy(), foreign.destroy()]);
    }
  };

  describe('that join', () => {
    it('write and read within the transaction, and vanish or commit with it', () =>
      cast(true, async ({ url, scribe }) => {
        const key = newKey();
        const script = new Script(async ({ run }) => {
          await scribe.books.save({ title: key, line: `books ${run}` });
          await scribe.library.insert({ title: key, line: `library ${run}` });
          const seen = [await scribe.books.countBy({ title: key }), await scribe.library.linesOf(key)];
          expect(await ours.read(key)).toEqual([]);
          if (run === 1) throw new Error('again');
          return { seen };
        });
        expect((await script.send(`${url}/atomic`, { key })).status).toBe(500);
        expect(await ours.read(key)).toEqual([]);
        expect(json(await script.send(`${url}/atomic`, { key }))).toEqual({ seen: [2, 2] });
        expect(await ours.read(key)).toEqual(['books 2', 'library 2']);
      }));

    it('are their own selves outside of it, while another request is within', () =>
      cast(true, async ({ url, scribe, app }) => {
        const key = newKey();
        const script = new Script(async () => {
          await scribe.books.save({ title: key, line: 'inside' });
          await stage.stopAt(key);
          return {};
        });
        const request = script.send(`${url}/atomic`, { key });
        await stage.reached(key);
        expect(await scribe.books.countBy({ title: key })).toBe(0);
        await scribe.books.save({ title: key, line: 'outside' });
        expect(scribe.books.manager).toBe(app.get(IdempotencyService).manager);
        const plain = new Script(() => scribe.books.save({ title: key, line: 'plain' }));
        expect((await plain.send(`${url}/plain`, { key: newKey() })).status).toBe(201);
        expect(await ours.read(key)).toEqual(['outside', 'plain']);
        stage.open(key);
        expect((await request).status).toBe(201);
        expect((await ours.read(key)).sort()).toEqual(['inside', 'outside', 'plain']);
      }));

    it('join a run’s transaction as well', () =>
      cast(true, async ({ app, scribe }) => {
        const key = newKey();
        const failing = app.get(IdempotencyService).run({ operation: 'mail', key, atomic: true }, async () => {
          await scribe.books.save({ title: key, line: 'sent' });
          throw new Error('bounced');
        });
        await expect(failing).rejects.toThrow('bounced');
        expect(await ours.read(key)).toEqual([]);
      }));

    it('can’t be used within a step’s work', () =>
      cast(true, async ({ url, scribe }) => {
        let error: unknown;
        const script = new Script(({ execution }) =>
          execution.step('charge', () => scribe.books.count()).catch((thrown: unknown) => (error = thrown)),
        );
        await script.send(`${url}/atomic`, { key: newKey() });
        expect(error).toMatchObject({ message: expect.stringContaining("within a step's work") });
      }));

    it('of another DataSource are left alone', () =>
      cast(true, async ({ url, scribe, before }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'inside');
          await scribe.elsewhere.save({ title: key, line: 'elsewhere' });
          throw new Error('rolled back');
        });
        await script.send(`${url}/atomic`, { key });
        expect(await ours.read(key)).toEqual(['elsewhere']);
        expect(looksOf(scribe)[2]).toEqual(before[2]);
      }));
  });

  it.each([undefined, false])(
    'that don’t join (%p) are not touched: they write outside of the transaction, as they always did',
    (joining) =>
      cast(joining, async ({ url, scribe, before }) => {
        const key = newKey();
        const script = new Script(async ({ execution }) => {
          await write(execution.manager, key, 'inside');
          await scribe.books.save({ title: key, line: 'outside' });
          throw new Error('rolled back');
        });
        await script.send(`${url}/atomic`, { key });
        expect(await ours.read(key)).toEqual(['outside']);
        expect(looksOf(scribe)).toEqual(before);
      }),
  );
});
