import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** A confirmation that is owed to a customer. It goes when it has been sent. */
@Entity('pending_mails')
export class PendingMail {
  @PrimaryColumn({ name: 'order_id', type: 'uuid' })
  orderId!: string;

  @Column({ type: 'text' })
  recipient!: string;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
