import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { OUTSIDE } from '../outside.js';
import { PriceInquiry } from './price-inquiry.entity.js';
import { PriceService } from './price-service.js';
import { SupplierController } from './supplier.controller.js';

@Module({
  imports: [TypeOrmModule.forFeature([PriceInquiry], OUTSIDE)],
  controllers: [SupplierController],
  providers: [PriceService],
  exports: [PriceService],
})
export class SupplierModule {}
