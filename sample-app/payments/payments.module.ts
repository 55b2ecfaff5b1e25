import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { LedgerModule } from '../ledger/ledger.module.js';
import { PaymentNews } from './payment-news.js';
import { Payment } from './payment.entity.js';
import { PaymentsController } from './payments.controller.js';
import { PaymentsService } from './payments.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Payment]), LedgerModule],
  controllers: [PaymentsController],
  providers: [PaymentsService, PaymentNews],
  exports: [PaymentNews],
})
export class PaymentsModule {}
