import { Module } from '@nestjs/common';
import { MetricsController } from './metrics.controller.js';
import { Watch } from './watch.js';

@Module({ providers: [Watch], controllers: [MetricsController] })
export class TelemetryModule {}
