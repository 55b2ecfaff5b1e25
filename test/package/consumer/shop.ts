/** An application of a customer's. The same text is compiled and run as an ES module and as CommonJS. */
import 'reflect-metadata';
import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import * as library from 'nestjs-idempotency-pg';
import { CurrentExecution, IdempotencyModule, Idempotent, type IdempotentExecution } from 'nestjs-idempotency-pg';
import * as client from 'nestjs-idempotency-pg/client';
import * as migrations from 'nestjs-idempotency-pg/migrations';

let charges = 0;

@Controller('payments')
class PaymentsController {
  @Post()
  @Idempotent({ required: true })
  pay(@CurrentExecution() execution: IdempotentExecution): { charge: number; key: string | undefined } {
    charges += 1;
    return { charge: charges, key: execution.key };
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env['DATABASE_URL'],
      migrations: [...migrations.idempotencyMigrations],
      migrationsRun: true,
    }),
    IdempotencyModule.forRoot(),
  ],
  controllers: [PaymentsController],
})
class ShopModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(ShopModule, { logger: false });
  await app.listen(0, '127.0.0.1');
  const call = client.idempotentFetch();
  const pay = () => call(`${base(app.getHttpServer().address())}/payments`, { method: 'POST', idempotencyKey: 'one' });
  const [first, second] = [await pay(), await pay()];
  const report = {
    names: Object.keys(library).sort(),
    migrationNames: Object.keys(migrations).sort(),
    clientNames: Object.keys(client).sort(),
    answers: [await first.text(), await second.text()],
    replayed: second.headers.get('idempotent-replayed'),
  };
  await app.close();
  console.log(JSON.stringify(report));
}

function base(address: { port: number }): string {
  return `http://127.0.0.1:${address.port}`;
}

void main();
