import { IsInt, Length, Matches, Max, Min } from 'class-validator';

export class CreatePaymentDto {
  /** In cents. */
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  amount!: number;

  /** The provider's token of a card. */
  @Matches(/^tok_\w{1,40}$/)
  card!: string;

  @Length(1, 200)
  description!: string;
}
