/**
 * A shop whose payments can be stopped at every point of their way (see crash-points.ts). It takes
 * them in all the ways there are: without and with steps, plain and atomic; refused in the end with
 * an answer that is kept; and with a `run` of its own inside.
 *
 * What it charges is in the books of the provider, which are kept elsewhere and forget nothing,
 * whatever becomes of the shop's transaction or its database.
 */
import { randomUUID } from 'node:crypto';
import { Controller, Headers, HttpException, Module, Post } from '@nestjs/common';
import type { MiddlewareConsumer, NestModule } from '@nestjs/common';
import { Pool } from 'pg';
import { DataSource, EntitySchema } from 'typeorm';
import type { EntityManager } from 'typeorm';
import { CurrentExecution, Idempotent, IdempotencyService } from '../../../lib/index.js';
import type { IdempotentExecution } from '../../../lib/index.js';
import { startApp } from '../app.js';
import type { RunningApp } from '../app.js';
import { elsewhere, follow, point } from './crash-points.js';
import type { Stops } from './crash-points.js';

interface Row {
  id?: number;
  key: string;
}

const tableOf = (name: string): EntitySchema<Row> =>
  new EntitySchema<Row>({ name, columns: { id: { type: Number, primary: true, generated: 'increment' }, key: { type: String } } });
const Payment = tableOf('payments');
const Mail = tableOf('mails');

export const SHOP_TABLES = `
  create table payments (id serial primary key, key text not null);
  create table mails (id serial primary key, key text not null)`;

/** `key` is the shop's, `provider_key` the one that the provider was given. */
export const PROVIDER_TABLES = `
  create table calls (id serial primary key, key text not null, name text not null, provider_key text not null)`;

/** What a payment answers, as far as it got. */
export interface Receipt {
  readonly payment?: number;
  readonly charge?: number;
  readonly receipt?: number;
  readonly mail?: number;
}

export interface CrashShopParts {
  /** By which Postgres knows its connections. */
  readonly name: string;
  readonly databaseUrl: string;
  /** Of the provider's books. */
  readonly providerUrl: string;
  readonly stops: Stops;
  /** Connections of each of the shop's two pools: a request that is stopped keeps those it has. */
  readonly connections: number;
  /** Whether its requests share statements. Those that are to be stopped one by one must not. */
  readonly sharedStatements: boolean;
  /** Longest wait for Postgres. A request that is stopped waits as well. */
  readonly storeTimeout: string;
}

class Provider {
  constructor(private readonly books: Pool) {}

  /** A call to another system, which answers with a number of its own. */
  async call(name: string, key: string, providerKey: string): Promise<number> {
    await point(`before the call ${name}`);
    const { rows } = await elsewhere(() =>
      this.books.query<{ id: number }>('insert into calls (key, name, provider_key) values ($1, $2, $3) returning id', [
        key,
        name,
        providerKey,
      ]),
    );
    await point(`after the call ${name}`);
    return rows[0]!.id;
  }
}

async function insert(manager: EntityManager, table: EntitySchema<Row>, key: string): Promise<number> {
  const { id } = await manager.save(table, { key });
  await point(`inserted into ${table.options.name}`);
  return id!;
}

class Payments {
  constructor(
    private readonly manager: EntityManager,
    private readonly provider: Provider,
  ) {}

  async plain(key: string): Promise<Receipt> {
    await point('begun');
    return { payment: await insert(this.manager, Payment, key) };
  }

  async withSteps(key: string, execution: IdempotentExecution): Promise<Receipt> {
    const call = (name: string): Promise<number> => execution.step(name, (step) => this.provider.call(name, key, step.key));
    await point('begun');
    const charge = await call('charge');
    await point('charged');
    const payment = await execution.transaction('book', (manager) => insert(manager, Payment, key));
    await point('booked');
    const receipt = await call('receipt');
    await point('receipted');
    return { charge, payment, receipt };
  }

  async atomic(key: string, { manager }: IdempotentExecution): Promise<Receipt> {
    await point('begun');
    return { payment: await insert(manager, Payment, key) };
  }

  /** Its transaction begins with its first statement. */
  async promptly(key: string, { manager }: IdempotentExecution): Promise<Receipt> {
    return { payment: await insert(manager, Payment, key) };
  }
}

const PROMPT = 'atomic-prompt';

@Controller()
class PaymentsController {
  constructor(
    private readonly payments: Payments,
    private readonly idempotency: IdempotencyService,
  ) {}

  @Idempotent()
  @Post('plain')
  plain(@Headers('idempotency-key') key: string): Promise<Receipt> {
    return this.payments.plain(key);
  }

  @Idempotent()
  @Post('plain-steps')
  plainSteps(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<Receipt> {
    return this.payments.withSteps(key, execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic')
  atomic(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<Receipt> {
    return this.payments.atomic(key, execution);
  }

  @Idempotent({ atomic: true })
  @Post(PROMPT)
  atomicPrompt(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<Receipt> {
    return this.payments.promptly(key, execution);
  }

  @Idempotent({ atomic: true })
  @Post('atomic-steps')
  atomicSteps(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<Receipt> {
    return this.payments.withSteps(key, execution);
  }

  /** The refusal is an answer to keep, and what was written before it is not. */
  @Idempotent({ atomic: true })
  @Post('atomic-refused')
  async atomicRefused(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<never> {
    throw new HttpException(await this.payments.withSteps(key, execution), 402);
  }

  @Idempotent({ atomic: true })
  @Post('atomic-run')
  async atomicRun(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<Receipt> {
    const { payment } = await this.payments.atomic(key, execution);
    const { value: mail } = await this.idempotency.run({ operation: 'mail', key }, (run) => insert(run.manager, Mail, key));
    await point('mailed');
    return { payment, mail };
  }
}

export interface CrashShop extends Pick<RunningApp, 'url'> {
  close(): Promise<void>;
}

export async function startCrashShop(parts: CrashShopParts): Promise<CrashShop> {
  const { name, databaseUrl, providerUrl, stops, connections, sharedStatements, storeTimeout } = parts;
  const books = new Pool({ connectionString: providerUrl, max: 8 });
  const dataSource = new DataSource({
    type: 'postgres',
    url: databaseUrl,
    poolSize: connections,
    entities: [Payment, Mail],
    applicationName: name,
    poolErrorHandler: () => undefined, // Postgres may go away: that is what is tested here
  });
  await dataSource.initialize();

  @Module({})
  class Journeys implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(follow(stops)).forRoutes(PaymentsController);
    }
  }
  const app = await startApp('express', {
    controllers: [PaymentsController],
    imports: [Journeys],
    providers: [{ provide: Payments, useFactory: () => new Payments(dataSource.manager, new Provider(books)) }],
    options: { dataSource, poolSize: connections, sharedStatements, scope: false, storeTimeout, reaper: false },
  });
  // Once seen to be prompt, it begins as it always does from then on.
  await fetch(`${app.url}/${PROMPT}`, { method: 'POST', headers: { 'idempotency-key': randomUUID() } });
  return {
    url: app.url,
    async close() {
      await app.close();
      await Promise.all([dataSource.destroy(), books.end()]);
    },
  };
}
