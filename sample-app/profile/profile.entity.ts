import { Column, Entity, PrimaryColumn, VersionColumn } from 'typeorm';

@Entity('profiles')
export class Profile {
  @PrimaryColumn({ name: 'user_id', type: 'text' })
  userId!: string;

  @Column({ type: 'text' })
  name!: string;

  /** Where orders are sent to. */
  @Column({ type: 'text' })
  address!: string;

  /** Counts the changes. It is what the `ETag` says. */
  @VersionColumn()
  version!: number;
}
