import { Module, ValidationPipe } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { APP_GUARD, APP_PIPE } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule } from '../lib/index.js';
import { idempotencyMigrations } from '../migrations/index.js';
import { AuthGuard } from './auth/auth.guard.js';
import { CreateShopTables1764000100000 } from './migrations/1764000100000-create-shop-tables.js';
import { OrdersModule } from './orders/orders.module.js';
import { PaymentsModule } from './payments/payments.module.js';
import { ProviderModule } from './provider/provider.module.js';
import type { ShopSettings } from './settings.js';
import { WelcomeModule } from './welcome/welcome.module.js';

@Module({})
export class AppModule {
  static with(settings: ShopSettings): DynamicModule {
    return {
      module: AppModule,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({
            type: 'postgres',
            url: settings.databaseUrl,
            autoLoadEntities: true,
            migrations: [...idempotencyMigrations, CreateShopTables1764000100000],
            migrationsRun: true,
          }),
        }),
        IdempotencyModule.forRoot({ lockTtl: settings.lockTtl }),
        ProviderModule.with({ delayMs: settings.providerDelayMs }),
        PaymentsModule,
        OrdersModule,
        WelcomeModule,
      ],
      providers: [
        { provide: APP_GUARD, useClass: AuthGuard },
        { provide: APP_PIPE, useFactory: () => new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }) },
      ],
    };
  }
}
