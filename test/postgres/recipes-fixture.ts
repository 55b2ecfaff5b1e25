/** An application's tables for the recipes, with all that TypeORM can put between a property and its column. */
import { afterAll, beforeAll } from '@jest/globals';
import { setTimeout as pause } from 'node:timers/promises';
import {
  Column,
  CreateDateColumn,
  DataSource,
  DeleteDateColumn,
  Entity,
  Index,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  Unique,
  UpdateDateColumn,
  VersionColumn,
  ViewEntity,
} from 'typeorm';
import type { EntityManager, ValueTransformer } from 'typeorm';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

/** Whole cents in the application, a numeric with two places in the table. */
const cents: ValueTransformer = {
  to: (value: number | null | undefined) => (typeof value === 'number' ? (value / 100).toFixed(2) : value),
  from: (value: string | null | undefined) => (typeof value === 'string' ? Math.round(Number(value) * 100) : value),
};

@Entity({ schema: 'shop', name: 'authors' })
export class Author {
  @PrimaryColumn('text')
  name!: string;
}

export class Format {
  @Column('int')
  width!: number;

  @Column({ name: 'tallness', type: 'int', nullable: true })
  height!: number | null;
}

/** A document that is edited. */
@Entity({ schema: 'shop', name: 'documents' })
@Unique(['shelf', 'place'])
export class Document {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'doc_title', type: 'text' })
  title!: string;

  @Column({ type: 'text', nullable: true })
  note!: string | null;

  @Column({ type: 'text', nullable: true })
  shelf!: string | null;

  @Column({ type: 'int', nullable: true })
  place!: number | null;

  @Column(() => Format)
  format!: Format;

  @Column({ type: 'numeric', precision: 12, scale: 2, nullable: true, transformer: cents })
  price!: number | null;

  @Column({ type: 'jsonb', nullable: true })
  meta!: { readonly colours: string[] } | null;

  @Column({ type: 'text', array: true, default: [] })
  tags!: string[];

  @Column({ type: 'text', default: 'nobody', update: false })
  madeBy!: string;

  @ManyToOne(() => Author)
  @JoinColumn({ name: 'author_name' })
  author!: Author | null;

  @VersionColumn({ name: 'revision' })
  version!: number;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;

  @DeleteDateColumn({ name: 'deleted_at', type: 'timestamptz' })
  deletedAt!: Date | null;

  describe(): string {
    return `${this.title} (${this.version})`;
  }
}

/** Without a `@VersionColumn`. */
@Entity({ schema: 'shop', name: 'counters' })
export class Counter {
  @PrimaryColumn('text')
  name!: string;

  @Column({ name: 'counted', type: 'int' })
  value!: number;

  @Column({ type: 'bigint', nullable: true })
  changes!: string | null;
}

/** What is inserted once. */
@Entity({ schema: 'shop', name: 'tickets' })
@Unique(['buyer', 'reference'])
@Index(['seat'], { unique: true, where: '"released" IS NULL' })
export class Ticket {
  @PrimaryGeneratedColumn()
  id!: number;

  @Column({ name: 'bought_by', type: 'text' })
  buyer!: string;

  @Column({ name: 'order_ref', type: 'text' })
  reference!: string;

  @Column({ type: 'int', nullable: true, unique: true })
  serial!: number | null;

  @Column({ type: 'int', nullable: true })
  seat!: number | null;

  @Column({ type: 'text', nullable: true })
  released!: string | null;

  @Column(() => Format)
  format!: Format;

  @Column({ type: 'numeric', precision: 12, scale: 2, default: 0, transformer: cents })
  price!: number;

  @Column({ type: 'text', default: 'hidden', select: false })
  secret!: string;

  @ManyToOne(() => Author)
  @JoinColumn({ name: 'artist_name' })
  artist!: Author | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @VersionColumn()
  version!: number;

  @DeleteDateColumn({ name: 'deleted_at', type: 'timestamptz' })
  deletedAt!: Date | null;
}

@ViewEntity({ schema: 'shop', name: 'titles', expression: 'select doc_title as title from shop.documents' })
export class Title {
  @Column('text')
  title!: string;
}

export interface RecipeTables {
  readonly database: () => TestDatabase;
  readonly dataSource: () => DataSource;
  readonly manager: () => EntityManager;
}

export function recipeTables(): RecipeTables {
  let database: TestDatabase;
  let dataSource: DataSource;
  beforeAll(async () => {
    database = await createTestDatabase();
    await database.pool.query('create schema shop');
    dataSource = new DataSource({
      type: 'postgres',
      url: database.url,
      poolSize: 25,
      synchronize: true,
      entities: [Author, Document, Counter, Ticket, Title],
    });
    await dataSource.initialize();
  });
  afterAll(async () => {
    await dataSource.destroy();
    await database.drop();
  });
  return { database: () => database, dataSource: () => dataSource, manager: () => dataSource.manager };
}

/** Resolves when that many of this database's connections wait for another one's lock. */
export async function blocked({ pool }: TestDatabase, count = 1): Promise<void> {
  const waiting = `select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  while ((await pool.query<{ count: number }>(waiting)).rows[0]?.count !== count) await pause(10);
}

/** A transaction that stays open until the test ends it. */
export async function openTransaction(
  dataSource: DataSource,
  isolation?: 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE',
): Promise<{ readonly manager: EntityManager; commit(): Promise<void>; rollBack(): Promise<void> }> {
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction(isolation);
  const end = async (how: () => Promise<void>): Promise<void> => {
    await how();
    await runner.release();
  };
  return {
    manager: runner.manager,
    commit: () => end(() => runner.commitTransaction()),
    rollBack: () => end(() => runner.rollbackTransaction()),
  };
}
