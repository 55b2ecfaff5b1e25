import { BadGatewayException, HttpException, HttpStatus, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import type { User } from '../auth/users.js';
import { PaymentProvider } from '../provider/payment-provider.js';
import type { CreatePaymentDto } from './create-payment.dto.js';
import { Payment } from './payment.entity.js';

@Injectable()
export class PaymentsService {
  constructor(
    @InjectRepository(Payment) private readonly payments: Repository<Payment>,
    private readonly provider: PaymentProvider,
  ) {}

  /**
   * @param chargeKey the same for every attempt at this payment: if one is interrupted after the
   *   provider has charged, the next one asks for the same charge and not for a second one
   */
  async pay(user: User, { amount, card, description }: CreatePaymentDto, chargeKey: string): Promise<Payment> {
    const result = await this.provider.charge({ idempotencyKey: chargeKey, card, amount, description });
    switch (result.kind) {
      case 'charged':
        return this.enter({ userId: user.id, amount, description, chargeId: result.chargeId });
      case 'declined':
        throw new HttpException('The card was declined.', HttpStatus.PAYMENT_REQUIRED);
      case 'unavailable':
        throw new BadGatewayException('The payment provider is not available. Nothing was charged; try again.');
    }
  }

  list(user: User): Promise<Payment[]> {
    return this.payments.find({ where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }

  /** An interrupted attempt may have entered the charge already; then its entry counts. */
  private async enter(payment: Pick<Payment, 'userId' | 'amount' | 'description' | 'chargeId'>): Promise<Payment> {
    await this.payments.createQueryBuilder().insert().values(payment).orIgnore().execute();
    return this.payments.findOneByOrFail({ chargeId: payment.chargeId });
  }
}
