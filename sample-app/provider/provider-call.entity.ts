import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/**
 * What became of a call: the card was *charged*; the charge was there already (*repeated*, no money
 * moved); the card was *declined*; or the provider was *unavailable*.
 */
export type CallOutcome = 'charged' | 'repeated' | 'declined' | 'unavailable';

/** The other company's own book: every call that reached it. The shop never reads it. */
@Entity('provider_charges')
export class ProviderCall {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'idempotency_key', type: 'text' })
  idempotencyKey!: string;

  @Column({ type: 'text' })
  card!: string;

  @Column({ type: 'integer' })
  amount!: number;

  @Column({ type: 'text' })
  description!: string;

  @Column({ type: 'text' })
  outcome!: CallOutcome;

  @CreateDateColumn({ name: 'called_at', type: 'timestamptz' })
  calledAt!: Date;
}
