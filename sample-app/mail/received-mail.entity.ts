import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** The customers' mailboxes. The shop never reads them. */
@Entity('received_mails')
export class ReceivedMail {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ type: 'text' })
  recipient!: string;

  /** As it came, with its header. */
  @Column({ type: 'text' })
  source!: string;

  @CreateDateColumn({ name: 'received_at', type: 'timestamptz' })
  receivedAt!: Date;
}
