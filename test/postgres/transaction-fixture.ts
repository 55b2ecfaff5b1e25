/** Applications whose transactions are opened: a pool or a DataSource of their own, and a table with business rows. */
import { Pool } from 'pg';
import { DataSource, EntitySchema, type EntityManager } from 'typeorm';
import { Promptness } from '../../lib/contract/promptness.js';
import type { Ownership } from '../../lib/contract/record.js';
import type { KeepingWrite, LastWrite, RecordTransaction, TransactionSettings } from '../../lib/contract/transaction.js';
import type { Application, PostgresStore } from '../../lib/store/postgres-store.js';
import { anAnswer, HOUR, IN_TIME, SECOND, type Bench } from './store-fixture.js';

export interface Entry {
  id?: number;
  note: string;
}

const Ledger = new EntitySchema<Entry>({
  name: 'ledger',
  columns: { id: { type: Number, primary: true, generated: 'increment' }, note: { type: String } },
});

export async function makeLedger(bench: Bench): Promise<void> {
  await bench.pool.query('create table ledger (id serial primary key, note text not null)');
}

export async function notes(bench: Bench): Promise<string[]> {
  const { rows } = await bench.pool.query<{ note: string }>('select note from ledger order by id');
  return rows.map(({ note }) => note);
}

/** One of the two ways in which an application reaches Postgres, with a store beside it. */
export interface Shop {
  readonly application: Application;
  readonly store: PostgresStore;
  /** Writes a row as a handler would. */
  write(transaction: RecordTransaction, note: string): Promise<unknown>;
  query(transaction: RecordTransaction, text: string): Promise<unknown>;
  /** Connections of the application's that are lent right now. */
  lent(): number;
  close(): Promise<void>;
}

export interface ShopOptions {
  readonly size?: number;
  readonly url?: string;
  readonly name?: string;
}

export async function typeormShop(
  bench: Bench,
  { size = 4, url = bench.url, name }: ShopOptions = {},
): Promise<Shop & { readonly dataSource: DataSource }> {
  const dataSource = new DataSource({ type: 'postgres', url, poolSize: size, entities: [Ledger], applicationName: name });
  await dataSource.initialize();
  const pool = (dataSource.driver as unknown as { master: Pool }).master;
  return {
    dataSource,
    application: { dataSource },
    store: bench.store({ application: { dataSource } }),
    write: (transaction, note) => managerOf(transaction).getRepository(Ledger).save({ note }),
    query: (transaction, text) => managerOf(transaction).query(text),
    lent: () => pool.totalCount - pool.idleCount,
    close: () => dataSource.destroy(),
  };
}

export async function poolShop(
  bench: Bench,
  { size = 4, url = bench.url, name }: ShopOptions = {},
): Promise<Shop & { readonly pool: Pool }> {
  const pool = new Pool({ connectionString: url, max: size, application_name: name });
  pool.on('error', () => undefined);
  return {
    pool,
    application: { pool },
    store: bench.store({ application: { pool } }),
    write: (transaction, note) => transaction.client.query('insert into ledger (note) values ($1)', [note]),
    query: (transaction, text) => transaction.client.query(text),
    lent: () => pool.totalCount - pool.idleCount,
    close: () => pool.end(),
  };
}

/** Every transaction has given its connection back. */
export function nothingIsLent(shop: Shop): void {
  if (shop.lent() !== 0) throw new Error(`${shop.lent()} connections were not given back.`);
}

const prompt = new WeakSet<PostgresStore>();

/** What begins in this store begins with the first statement. */
export function promptly<Store extends PostgresStore>(store: Store): Store {
  prompt.add(store);
  return store;
}

function promptShop(open: (bench: Bench, options?: ShopOptions) => Promise<Shop>) {
  return async (bench: Bench, options?: ShopOptions): Promise<Shop> => {
    const shop = await open(bench, options);
    promptly(shop.store);
    return shop;
  };
}

export const SHOPS = [
  ['TypeORM', typeormShop],
  ['pg', poolShop],
] as const;

export const PROMPT_SHOPS = [
  ['TypeORM, prompt', promptShop(typeormShop)],
  ['pg, prompt', promptShop(poolShop)],
] as const;

/** Of a handler that has been seen once. */
export function promptness(isPrompt = true): Promptness {
  const seen = new Promptness();
  seen.saw(isPrompt);
  return seen;
}

export const managerOf = (transaction: RecordTransaction): EntityManager => transaction.manager as EntityManager;

export const settings = (fields: Partial<TransactionSettings> = {}): TransactionSettings => ({
  isolation: undefined,
  idleMs: 60 * SECOND,
  connectMs: IN_TIME,
  guard: () => undefined,
  holdsRecord: true,
  ...fields,
});

export async function begun(
  store: PostgresStore,
  ownership: Ownership,
  fields: Partial<TransactionSettings> = {},
): Promise<RecordTransaction> {
  const given = prompt.has(store) ? { promptness: promptness(), ...fields } : fields;
  const transaction = await store.transaction(ownership, settings(given));
  if (transaction === undefined) throw new Error('The claim was lost.');
  return transaction;
}

/** The ways in which a record ends. */
export const answering = (ownership: Ownership, answer = anAnswer(), retentionMs = HOUR): KeepingWrite => ({
  kind: 'complete',
  ownership,
  answer,
  retentionMs,
});
export const sealing = (ownership: Ownership, status?: number): KeepingWrite => ({ kind: 'seal', ownership, status, retentionMs: HOUR });
export const releasing = (ownership: Ownership): LastWrite => ({ kind: 'release', ownership, retentionMs: HOUR });
