import {
  Body,
  ConflictException,
  Controller,
  Get,
  HttpStatus,
  NotFoundException,
  Param,
  ParseUUIDPipe,
  Post,
  Put,
  Res,
} from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Response } from 'express';
import type { Repository } from 'typeorm';
import { CurrentExecution, Idempotent, insertOnce } from '../../lib/index.js';
import type { IdempotentExecution } from '../../lib/index.js';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { CreateOrderDto } from './create-order.dto.js';
import { OrderDto } from './order.dto.js';
import { Order } from './order.entity.js';

@Controller('orders')
export class OrdersController {
  constructor(@InjectRepository(Order) private readonly orders: Repository<Order>) {}

  /**
   * The key is optional here: without one every request is a new order. The key tells a retry. That a
   * customer has one order of a reference is another matter, and the unique constraint decides it: a
   * look beforehand would find nothing in both of two requests at once.
   *
   * In one transaction with the answer, so that a retry after a crash does not meet its own order.
   */
  @Post()
  @Idempotent({ atomic: true })
  async create(
    @CurrentUser() user: User,
    @Body() { item, quantity, reference }: CreateOrderDto,
    @CurrentExecution() { manager }: IdempotentExecution,
  ): Promise<Order> {
    const order = { userId: user.id, item, quantity };
    if (!reference) return manager.save(Order, order);
    const { row, inserted } = await insertOnce(manager, Order, { ...order, reference }, { unique: ['userId', 'reference'] });
    if (!inserted) throw new ConflictException(`The reference ${reference} belongs to your order ${row.id}. Give another one, or none.`);
    return row;
  }

  /**
   * The client has made up the order's id, and says where the order is to be. That is all a retry
   * needs: no key, and nothing is kept but the order itself. An order that is there stays as it is.
   */
  @Put(':id')
  async place(
    @CurrentUser() user: User,
    @Param('id', ParseUUIDPipe) id: string,
    @Body() { item, quantity }: OrderDto,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Order> {
    const { row, inserted } = await insertOnce(this.orders.manager, Order, { id, userId: user.id, item, quantity }, { unique: ['id'] });
    if (row.userId !== user.id) throw notFound(id); // whoever guesses an id learns nothing of whose it is
    if (row.item !== item || row.quantity !== quantity) {
      throw new ConflictException(`There is an order ${id} already, and it is another one. Make up a new id for a new order.`);
    }
    response.status(inserted ? HttpStatus.CREATED : HttpStatus.OK);
    return row;
  }

  @Get(':id')
  async read(@CurrentUser() user: User, @Param('id', ParseUUIDPipe) id: string): Promise<Order> {
    const order = await this.orders.findOneBy({ id, userId: user.id });
    if (order === null) throw notFound(id);
    return order;
  }

  @Get()
  list(@CurrentUser() user: User): Promise<Order[]> {
    return this.orders.find({ where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }
}

const notFound = (id: string): NotFoundException => new NotFoundException(`You have no order ${id}.`);
