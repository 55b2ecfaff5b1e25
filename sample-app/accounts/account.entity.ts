import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('accounts')
export class Account {
  @PrimaryColumn({ type: 'text' })
  id!: string;

  @Column({ name: 'user_id', type: 'text' })
  userId!: string;

  /** In cents, and never below zero: a check constraint has the last word on that. */
  @Column({ type: 'integer' })
  balance!: number;
}
