import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** It goes forward only: what has been refunded is not settled any more, in whatever order the shop hears of it. */
export type PaymentState = 'paid' | 'settled' | 'refunded';

@Entity('payments')
export class Payment {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'user_id', type: 'text' })
  userId!: string;

  @Column({ name: 'order_id', type: 'uuid', unique: true })
  orderId!: string;

  /** In cents. */
  @Column({ type: 'integer' })
  amount!: number;

  @Column({ type: 'text' })
  description!: string;

  /** The provider's name of the charge. */
  @Column({ name: 'charge_id', type: 'uuid', unique: true })
  chargeId!: string;

  @Column({ type: 'text' })
  state!: PaymentState;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
