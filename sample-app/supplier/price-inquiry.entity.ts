import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** What became of an inquiry: prices were *quoted*; they had been quoted already (*repeated*, nothing is billed); or the service was *unavailable*. */
export type InquiryOutcome = 'quoted' | 'repeated' | 'unavailable';

/** The supplier's own book, by which it bills the shop: every inquiry that reached it. The shop never reads it. */
@Entity('supplier_inquiries')
export class PriceInquiry {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'idempotency_key', type: 'text' })
  idempotencyKey!: string;

  @Column({ type: 'text', array: true })
  skus!: string[];

  @Column({ type: 'text' })
  outcome!: InquiryOutcome;

  @CreateDateColumn({ name: 'asked_at', type: 'timestamptz' })
  askedAt!: Date;
}
