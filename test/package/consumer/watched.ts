/** What is said of an application to its clients and to its operators. */
import 'reflect-metadata';
import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { TerminusModule } from '@nestjs/terminus';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Idempotent, IdempotencyModule } from 'nestjs-idempotency-pg';
import { idempotencyMigrations } from 'nestjs-idempotency-pg/migrations';
import { documentIdempotency } from 'nestjs-idempotency-pg/swagger';
import { IdempotencyHealthIndicator, type HealthOptions } from 'nestjs-idempotency-pg/terminus';

@Controller('payments')
class PaymentsController {
  @Post()
  @Idempotent()
  pay(): string {
    return 'paid';
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env['DATABASE_URL'],
      migrations: [...idempotencyMigrations],
      migrationsRun: true,
    }),
    IdempotencyModule.forRoot(),
    TerminusModule,
  ],
  controllers: [PaymentsController],
  providers: [IdempotencyHealthIndicator],
})
class ShopModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(ShopModule, { logger: false });
  await app.init();
  const document: OpenAPIObject = documentIdempotency(app, SwaggerModule.createDocument(app, new DocumentBuilder().build()));
  const [header] = document.paths['/payments']?.post?.parameters ?? [];
  const options: HealthOptions = { maxLostAge: '1h' };
  const { idempotency } = await app.get(IdempotencyHealthIndicator).isHealthy('idempotency', options);
  await app.close();
  console.log(JSON.stringify({ header: header !== undefined && 'name' in header ? header.name : undefined, health: idempotency.status }));
}

void main();
