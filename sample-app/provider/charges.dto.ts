import { Length } from 'class-validator';

export class ChargesDto {
  /** Of the charges that are meant. */
  @Length(1, 200)
  description!: string;
}
