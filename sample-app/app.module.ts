import { Module, ValidationPipe } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { APP_GUARD, APP_PIPE } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule } from '../lib/index.js';
import { idempotencyMigrations } from '../migrations/index.js';
import { AccountsModule } from './accounts/accounts.module.js';
import { AuthGuard } from './auth/auth.guard.js';
import { ContactModule } from './contact/contact.module.js';
import { HealthModule } from './health/health.module.js';
import { ImportsModule } from './imports/imports.module.js';
import { LedgerModule } from './ledger/ledger.module.js';
import { MailModule } from './mail/mail.module.js';
import { CreateShopTables1764000100000 } from './migrations/1764000100000-create-shop-tables.js';
import { AddLedgerAndMail1767000100000 } from './migrations/1767000100000-add-ledger-and-mail.js';
import { AddAccountsStockAndImports1770000100000 } from './migrations/1770000100000-add-accounts-stock-and-imports.js';
import { AddProfilesAndContact1770000200000 } from './migrations/1770000200000-add-profiles-and-contact.js';
import { OrdersModule } from './orders/orders.module.js';
import { OUTSIDE } from './outside.js';
import { PageModule } from './page/page.module.js';
import { PaymentsModule } from './payments/payments.module.js';
import { ProfileModule } from './profile/profile.module.js';
import { ProviderModule } from './provider/provider.module.js';
import { ReservationsModule } from './reservations/reservations.module.js';
import type { ShopSettings } from './settings.js';
import { UnprotectedModule } from './unprotected/unprotected.module.js';
import { TelemetryModule } from './telemetry/telemetry.module.js';
import { WebhooksModule } from './webhooks/webhooks.module.js';
import { WelcomeModule } from './welcome/welcome.module.js';

@Module({})
export class AppModule {
  static with({ databaseUrl, lockTtl, providerDelayMs, reservationTtl, smtpUrl, webhookSecret }: ShopSettings): DynamicModule {
    const database = { type: 'postgres', url: databaseUrl, autoLoadEntities: true } as const;
    return {
      module: AppModule,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({
            ...database,
            migrations: [
              ...idempotencyMigrations,
              CreateShopTables1764000100000,
              AddLedgerAndMail1767000100000,
              AddAccountsStockAndImports1770000100000,
              AddProfilesAndContact1770000200000,
            ],
            migrationsRun: true,
          }),
        }),
        TypeOrmModule.forRootAsync({ name: OUTSIDE, useFactory: () => ({ ...database, name: OUTSIDE }) }),
        IdempotencyModule.forRoot({ lockTtl, warnUnprotected: true }),
        ProviderModule.with({ delayMs: providerDelayMs, webhookSecret }),
        MailModule.with({ smtpUrl }),
        LedgerModule,
        PaymentsModule,
        OrdersModule,
        ProfileModule,
        ContactModule,
        AccountsModule,
        ReservationsModule.with({ ttl: reservationTtl }),
        ImportsModule,
        WebhooksModule.with({ secret: webhookSecret }),
        UnprotectedModule.with({ webhookSecret, reservationTtl }),
        PageModule,
        TelemetryModule,
        HealthModule,
        WelcomeModule,
      ],
      providers: [
        { provide: APP_GUARD, useClass: AuthGuard },
        { provide: APP_PIPE, useFactory: () => new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }) },
      ],
    };
  }
}
