import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** What the provider owes the shop, what is in the bank, and what was earned. */
export type Account = 'provider' | 'bank' | 'sales';

/** Double entry in one row: the amount goes to one account from another, so the books always balance. */
@Entity('ledger_entries')
export class LedgerEntry {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'payment_id', type: 'uuid' })
  paymentId!: string;

  @Column({ type: 'text' })
  debit!: Account;

  @Column({ type: 'text' })
  credit!: Account;

  /** In cents. */
  @Column({ type: 'integer' })
  amount!: number;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
