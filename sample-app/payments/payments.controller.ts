import { Body, Controller, Get, Post } from '@nestjs/common';
import { CurrentExecution, Idempotent } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreatePaymentDto } from './create-payment.dto.js';
import type { Payment } from './payment.entity.js';
import { PaymentsService } from './payments.service.js';

@Controller('payments')
export class PaymentsController {
  constructor(private readonly payments: PaymentsService) {}

  @Post()
  @Idempotent({ required: true, atomic: true })
  create(
    @CurrentUser() user: User,
    @Body() payment: CreatePaymentDto,
    @CurrentExecution() execution: IdempotentExecution,
  ): Promise<Payment> {
    return this.payments.pay(user, payment, execution);
  }

  @Get()
  list(@CurrentUser() user: User): Promise<Payment[]> {
    return this.payments.list(user);
  }
}
