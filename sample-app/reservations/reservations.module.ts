import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Reservation } from './reservation.entity.js';
import { ReservationsController } from './reservations.controller.js';
import { RESERVATION_TTL, ReservationsService } from './reservations.service.js';
import { StockItem } from './stock-item.entity.js';
import { StockController } from './stock.controller.js';
import { Stock } from './stock.js';

@Module({})
export class ReservationsModule {
  static with({ ttl }: { ttl: string }): DynamicModule {
    return {
      module: ReservationsModule,
      imports: [TypeOrmModule.forFeature([Reservation, StockItem])],
      controllers: [ReservationsController, StockController],
      providers: [ReservationsService, Stock, { provide: RESERVATION_TTL, useValue: ttl }],
    };
  }
}
