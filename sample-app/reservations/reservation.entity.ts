import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/**
 * *reserved* becomes *committed*, *cancelled*, or *expired* when its time is over before somebody has
 * decided. These three are for good, and the last two have given the stock back.
 */
export type ReservationState = 'reserved' | 'committed' | 'cancelled' | 'expired';

@Entity('reservations')
export class Reservation {
  @PrimaryGeneratedColumn('uuid')
  reference!: string;

  @Column({ name: 'user_id', type: 'text' })
  userId!: string;

  @Column({ type: 'text' })
  item!: string;

  @Column({ type: 'integer' })
  quantity!: number;

  @Column({ type: 'text', default: 'reserved' })
  state!: ReservationState;

  /** On the database's clock, like every look at it. */
  @Column({ name: 'expires_at', type: 'timestamptz' })
  expiresAt!: Date;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
