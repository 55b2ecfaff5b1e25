import { Length } from 'class-validator';

export class PayOutDto {
  /** Of the charges that are to be paid out. */
  @Length(1, 200)
  description!: string;
}
