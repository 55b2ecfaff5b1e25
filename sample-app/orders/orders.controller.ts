import { Body, Controller, Get, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { Idempotent } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreateOrderDto } from './create-order.dto.js';
import { Order } from './order.entity.js';

@Controller('orders')
export class OrdersController {
  constructor(@InjectRepository(Order) private readonly orders: Repository<Order>) {}

  /** The key is optional here: without one every request is a new order. */
  @Post()
  @Idempotent()
  create(@CurrentUser() user: User, @Body() { item, quantity }: CreateOrderDto): Promise<Order> {
    return this.orders.save(this.orders.create({ userId: user.id, item, quantity }));
  }

  @Get()
  list(@CurrentUser() user: User): Promise<Order[]> {
    return this.orders.find({ where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }
}
