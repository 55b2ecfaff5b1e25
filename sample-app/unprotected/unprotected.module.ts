import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { LedgerModule } from '../ledger/ledger.module.js';
import { OUTSIDE } from '../outside.js';
import { ProviderCall } from '../provider/provider-call.entity.js';
import { RESERVATION_TTL } from '../reservations/reservations.service.js';
import { SupplierModule } from '../supplier/supplier.module.js';
import { SignatureGuard, WEBHOOK_SECRET } from '../webhooks/signature.guard.js';
import { UnprotectedContactController } from './contact.controller.js';
import { UnprotectedImportsController } from './imports.controller.js';
import { UnprotectedOrdersController } from './orders.controller.js';
import { UnprotectedPaymentsController } from './payments.controller.js';
import { UnprotectedProfileController } from './profile.controller.js';
import { UnprotectedProviderController } from './provider.controller.js';
import { UnprotectedReservationsController } from './reservations.controller.js';
import { UnprotectedTransfersController } from './transfers.controller.js';
import { UnprotectedWebhooksController } from './webhooks.controller.js';

/**
 * The shop as it was before: the same work under `/unprotected`, as it is often written. Nothing here
 * is to be copied; the page switches to these routes to show what is lost without protection.
 */
@Module({})
export class UnprotectedModule {
  static with({ webhookSecret, reservationTtl }: { webhookSecret: string; reservationTtl: string }): DynamicModule {
    return {
      module: UnprotectedModule,
      imports: [TypeOrmModule.forFeature([ProviderCall], OUTSIDE), LedgerModule, SupplierModule],
      controllers: [
        UnprotectedPaymentsController,
        UnprotectedOrdersController,
        UnprotectedProfileController,
        UnprotectedTransfersController,
        UnprotectedReservationsController,
        UnprotectedWebhooksController,
        UnprotectedProviderController,
        UnprotectedContactController,
        UnprotectedImportsController,
      ],
      providers: [
        SignatureGuard,
        { provide: WEBHOOK_SECRET, useValue: webhookSecret },
        { provide: RESERVATION_TTL, useValue: reservationTtl },
      ],
    };
  }
}
