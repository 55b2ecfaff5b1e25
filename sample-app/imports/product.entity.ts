import { Column, CreateDateColumn, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** No unique constraint keeps a product from being imported twice: several customers may sell the same thing, and one may list it again. */
@Entity('products')
export class Product {
  @PrimaryGeneratedColumn('uuid')
  id!: string;

  @Column({ name: 'user_id', type: 'text' })
  userId!: string;

  @Column({ type: 'text' })
  sku!: string;

  @Column({ type: 'text' })
  name!: string;

  /** In cents. */
  @Column({ type: 'integer' })
  price!: number;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
