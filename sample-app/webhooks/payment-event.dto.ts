import { IsUUID, Length } from 'class-validator';

export class PaymentEventDto {
  /** The same in every delivery of an event. */
  @Length(1, 100)
  id!: string;

  /** `charge.settled` and `charge.refunded` mean something here. */
  @Length(1, 100)
  type!: string;

  @IsUUID()
  chargeId!: string;
}
