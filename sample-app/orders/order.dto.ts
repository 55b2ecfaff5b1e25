import { IsInt, Length, Max, Min } from 'class-validator';

export class OrderDto {
  @Length(1, 100)
  item!: string;

  @IsInt()
  @Min(1)
  @Max(99)
  quantity!: number;
}
