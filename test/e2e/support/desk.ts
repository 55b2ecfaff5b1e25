/**
 * A handler that does what the test says, and the rows by which one sees what was committed. Each test
 * hands its own work over as a script; the request names it in a header, which counts for nothing else.
 */
import { createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import { afterAll, beforeAll } from '@jest/globals';
import { DataSource } from 'typeorm';
import type { DataSourceOptions, EntityManager } from 'typeorm';
import type { IdempotentExecution, TransactionClient } from '../../../lib/index.js';
import type { Bench } from './bench.js';
import type { PlatformResponse } from './platform-response.js';
import { send } from './wire.js';
import type { Answer, Sent } from './wire.js';

export interface Scene {
  readonly execution: IdempotentExecution;
  readonly response: PlatformResponse;
  /** 1 for the first time that this script is played. */
  readonly run: number;
}

export type Work = (scene: Scene) => unknown;

const HEADER = 'x-script';
const scripts: Script[] = [];

export class Script {
  #runs = 0;
  readonly #name: string;

  constructor(private readonly work: Work) {
    this.#name = String(scripts.push(this) - 1);
  }

  get name(): string {
    return this.#name;
  }

  get runs(): number {
    return this.#runs;
  }

  play(execution: IdempotentExecution, response: PlatformResponse): unknown {
    this.#runs += 1;
    return this.work({ execution, response, run: this.#runs });
  }

  /** Sends a request whose handler plays this script. */
  send(url: string, { headers, ...sent }: Sent = {}): Promise<Answer> {
    return send(url, { ...sent, headers: { ...headers, [HEADER]: this.#name } });
  }
}

export interface Played {
  by(execution: IdempotentExecution): unknown;
}

/** For a handler's parameter: `(@CurrentExecution() execution, @Play() script) { return script.by(execution); }`. */
export const Play = createParamDecorator((_: unknown, context: ExecutionContext): Played => {
  const request = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
  const response = context.switchToHttp().getResponse<PlatformResponse>();
  const script = scripts[Number(request.headers[HEADER])];
  if (script === undefined) throw new Error('There is no such script.');
  return { by: (execution) => script.play(execution, response) };
});

export interface Books {
  dataSource(): DataSource;
  /** What was committed under `title`, in order. */
  read(title: string): Promise<string[]>;
  /** Sets a counter, from outside. */
  set(name: string, value: number): Promise<void>;
  counter(name: string): Promise<number>;
}

/** Tables of an application on the bench's database, and a DataSource for it. */
export function books(bench: Bench, options: Partial<DataSourceOptions> = {}): Books {
  let dataSource: DataSource;
  beforeAll(async () => {
    const { url, pool } = bench.database();
    await pool.query(`
      create table books (id bigserial primary key, title text not null, line text not null);
      create table seats (number int not null unique deferrable initially deferred, title text not null);
      create table counters (name text primary key, value int not null);
    `);
    dataSource = await connect(url, options);
  });
  afterAll(() => dataSource.destroy());
  const query = <Row extends object>(text: string, values: unknown[]): Promise<{ rows: Row[] }> =>
    bench.database().pool.query<Row>(text, values);
  return {
    dataSource: () => dataSource,
    async read(title) {
      const { rows } = await query<{ line: string }>('select line from books where title = $1 order by id', [title]);
      return rows.map(({ line }) => line);
    },
    async set(name, value) {
      await query('insert into counters values ($1, $2) on conflict (name) do update set value = excluded.value', [name, value]);
    },
    async counter(name) {
      const { rows } = await query<{ value: number }>('select value from counters where name = $1', [name]);
      return rows[0]!.value;
    },
  };
}

export async function connect(url: string, options: Partial<DataSourceOptions> = {}): Promise<DataSource> {
  const dataSource = new DataSource({ type: 'postgres', url, applicationName: 'books', ...options } as DataSourceOptions);
  return dataSource.initialize();
}

/** Another DataSource on the bench's database, for as long as `work` takes. */
export async function withDataSource<T>(
  bench: Bench,
  options: Partial<DataSourceOptions>,
  work: (dataSource: DataSource) => Promise<T>,
): Promise<T> {
  const dataSource = await connect(bench.database().url, options);
  try {
    return await work(dataSource);
  } finally {
    await dataSource.destroy();
  }
}

/** Writes a line into the books. */
export async function write(by: EntityManager | TransactionClient, title: string, line: string): Promise<void> {
  await by.query('insert into books (title, line) values ($1, $2)', [title, line]);
}
