import { IsOptional, Length } from 'class-validator';
import { OrderDto } from './order.dto.js';

export class CreateOrderDto extends OrderDto {
  /** The customer's own name for the order. They have one order of that name at most. */
  @IsOptional()
  @Length(1, 100)
  reference?: string | null;
}
