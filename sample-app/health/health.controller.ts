import { Controller, Get } from '@nestjs/common';
import { HealthCheck, HealthCheckService } from '@nestjs/terminus';
import type { HealthCheckResult } from '@nestjs/terminus';
import { IdempotencyHealthIndicator } from '../../lib/terminus/index.js';
import { Public } from '../auth/public.js';

@Controller('health')
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly idempotency: IdempotencyHealthIndicator,
  ) {}

  /** For a readiness probe: a shop that can't reach its records refuses every payment. */
  @Get()
  @Public(true)
  @HealthCheck()
  check(): Promise<HealthCheckResult> {
    return this.health.check([() => this.idempotency.isHealthy('idempotency')]);
  }
}
