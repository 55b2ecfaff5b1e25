import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { OUTSIDE } from '../outside.js';
import { PROVIDER_DELAY_MS, PaymentProvider } from './payment-provider.js';
import { ProviderCall } from './provider-call.entity.js';
import { PROVIDER_SECRET, ProviderWebhooks } from './provider-webhooks.js';
import { ProviderController } from './provider.controller.js';

@Module({})
export class ProviderModule {
  static with({ delayMs, webhookSecret }: { delayMs: number; webhookSecret: string }): DynamicModule {
    return {
      module: ProviderModule,
      global: true,
      imports: [TypeOrmModule.forFeature([ProviderCall], OUTSIDE)],
      controllers: [ProviderController],
      providers: [
        PaymentProvider,
        ProviderWebhooks,
        { provide: PROVIDER_DELAY_MS, useValue: delayMs },
        { provide: PROVIDER_SECRET, useValue: webhookSecret },
      ],
      exports: [PaymentProvider, ProviderWebhooks],
    };
  }
}
