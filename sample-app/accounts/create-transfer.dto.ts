import { IsInt, IsUUID, Length, Max, Min } from 'class-validator';

export class CreateTransferDto {
  /** A new one for a new transfer, the same one for every try of it. */
  @IsUUID()
  transactionId!: string;

  @Length(1, 50)
  from!: string;

  @Length(1, 50)
  to!: string;

  /** In cents. */
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  amount!: number;
}
