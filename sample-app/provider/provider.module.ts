import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { PROVIDER_DELAY_MS, PaymentProvider } from './payment-provider.js';
import { ProviderCall } from './provider-call.entity.js';
import { ProviderController } from './provider.controller.js';

@Module({})
export class ProviderModule {
  static with({ delayMs }: { delayMs: number }): DynamicModule {
    return {
      module: ProviderModule,
      global: true,
      imports: [TypeOrmModule.forFeature([ProviderCall])],
      controllers: [ProviderController],
      providers: [PaymentProvider, { provide: PROVIDER_DELAY_MS, useValue: delayMs }],
      exports: [PaymentProvider],
    };
  }
}
