import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('stock')
export class StockItem {
  @PrimaryColumn({ type: 'text' })
  item!: string;

  /** What nobody has bought or reserved. Never below zero: a check constraint has the last word on that. */
  @Column({ type: 'integer' })
  available!: number;
}
