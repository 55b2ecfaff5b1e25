import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** A mail that is owed to somebody. It goes when it has been sent. */
@Entity('pending_mails')
export class PendingMail {
  /** The id of what it tells of, such as an order: there is one mail about each. */
  @PrimaryColumn({ type: 'uuid' })
  about!: string;

  @Column({ type: 'text' })
  recipient!: string;

  @Column({ name: 'reply_to', type: 'text', nullable: true })
  replyTo!: string | null;

  @Column({ type: 'text' })
  subject!: string;

  @Column({ type: 'text' })
  text!: string;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
