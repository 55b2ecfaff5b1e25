import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { PaymentsModule } from '../payments/payments.module.js';
import { SignatureGuard, WEBHOOK_SECRET } from './signature.guard.js';
import { WebhooksController } from './webhooks.controller.js';

@Module({})
export class WebhooksModule {
  static with({ secret }: { secret: string }): DynamicModule {
    return {
      module: WebhooksModule,
      imports: [PaymentsModule],
      controllers: [WebhooksController],
      providers: [SignatureGuard, { provide: WEBHOOK_SECRET, useValue: secret }],
    };
  }
}
