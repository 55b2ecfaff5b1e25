import { Body, Controller, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { OrderDto } from '../orders/order.dto.js';
import { Order } from '../orders/order.entity.js';

@Controller('unprotected/orders')
export class UnprotectedOrdersController {
  constructor(private readonly dataSource: DataSource) {}

  /** Every request is a new order. */
  @Post()
  @SkipIdempotency()
  create(@CurrentUser() user: User, @Body() { item, quantity }: OrderDto): Promise<Order> {
    return this.dataSource.manager.save(Order, { userId: user.id, item, quantity });
  }
}
