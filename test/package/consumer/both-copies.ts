/** A process with two copies of the library, as when a plugin that is CommonJS is used by an application of ES modules. */
import 'reflect-metadata';
import { createRequire } from 'node:module';
import { Controller, type INestApplication, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import * as esm from 'nestjs-idempotency-pg';
import { idempotencyMigrations } from 'nestjs-idempotency-pg/migrations';

type Library = typeof esm;
const cjs = createRequire(import.meta.url)('nestjs-idempotency-pg') as Library;

interface Seen {
  readonly calls: number;
  /** What the decorated parameter, the application's own service and the other application's service say. */
  readonly keys: readonly (string | undefined)[];
}

/** An application with one copy's module, whose controller was decorated with the other copy. */
async function start(
  moduleFrom: Library,
  decoratorsFrom: Library,
  seen: { last?: Seen },
  elsewhere: () => string | undefined,
): Promise<INestApplication> {
  let calls = 0;
  @Controller('pay')
  class PayController {
    constructor(readonly service: InstanceType<Library['IdempotencyService']>) {}

    @Post()
    @decoratorsFrom.Idempotent()
    pay(@decoratorsFrom.CurrentExecution() execution: esm.IdempotentExecution): Seen {
      calls += 1;
      seen.last = { calls, keys: [execution.key, this.service.current()?.key, elsewhere()] };
      return seen.last;
    }
  }
  Reflect.defineMetadata('design:paramtypes', [moduleFrom.IdempotencyService], PayController);

  @Module({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: process.env['DATABASE_URL'],
        migrations: [...idempotencyMigrations],
        migrationsRun: true,
      }),
      moduleFrom.IdempotencyModule.forRoot({ scope: false, operation: decoratorsFrom === cjs ? 'cjs' : 'esm' }),
    ],
    controllers: [PayController],
  })
  class AppModule {}
  const app = await NestFactory.create(AppModule, { logger: false });
  return app.listen(0, '127.0.0.1').then(() => app);
}

async function payTwice(app: INestApplication): Promise<{ bodies: Seen[]; replayed: string | null }> {
  const { port } = app.getHttpServer().address() as { port: number };
  const pay = () => fetch(`http://127.0.0.1:${port}/pay`, { method: 'POST', headers: { 'idempotency-key': 'k' } });
  const [first, second] = [await pay(), await pay()];
  return { bodies: [(await first.json()) as Seen, (await second.json()) as Seen], replayed: second.headers.get('idempotent-replayed') };
}

const apps: { a?: INestApplication; b?: INestApplication } = {};
apps.a = await start(cjs, esm, {}, () => apps.b?.get(esm.IdempotencyService).current()?.key ?? 'none');
apps.b = await start(esm, cjs, {}, () => apps.a?.get(cjs.IdempotencyService).current()?.key ?? 'none');
const report = {
  two: esm.IdempotencyModule !== cjs.IdempotencyModule,
  a: await payTwice(apps.a),
  b: await payTwice(apps.b),
  errors: [esm.isIdempotencyError(new cjs.KeyRequired('x')), cjs.isIdempotencyError(new esm.KeyRequired('x'))],
};
await apps.a.close();
await apps.b.close();
console.log(JSON.stringify(report));
