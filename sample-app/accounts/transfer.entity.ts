import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** Money that has moved. That its id is unique is what keeps it from moving twice. */
@Entity('transfers')
export class Transfer {
  /** Made by the client, before it sends the transfer for the first time. */
  @PrimaryColumn({ name: 'transaction_id', type: 'uuid' })
  transactionId!: string;

  @Column({ name: 'user_id', type: 'text' })
  userId!: string;

  @Column({ name: 'from_account', type: 'text' })
  from!: string;

  @Column({ name: 'to_account', type: 'text' })
  to!: string;

  /** In cents. */
  @Column({ type: 'integer' })
  amount!: number;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
