/**
 * Counts what becomes of the shop's keys. With OpenTelemetry's Node SDK, which brings exporters and
 * the other instrumentations, all of this is `observeIdempotency()` after its start.
 */
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import type { MetricData } from '@opentelemetry/sdk-metrics';
import { observeIdempotency } from '../../lib/telemetry/index.js';

@Injectable()
export class Watch implements OnModuleInit, OnApplicationShutdown {
  readonly #reader = new ReadWhenAsked();
  readonly #provider = new MeterProvider({ readers: [this.#reader] });
  #stop: (() => void) | undefined;

  onModuleInit(): void {
    this.#stop = observeIdempotency({ meterProvider: this.#provider });
  }

  async onApplicationShutdown(): Promise<void> {
    this.#stop?.();
    await this.#provider.shutdown();
  }

  async read(): Promise<MetricData[]> {
    const { resourceMetrics } = await this.#reader.collect();
    return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics);
  }
}

/** Prometheus comes and asks: there is nobody to send anything to. */
class ReadWhenAsked extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}

  protected override async onShutdown(): Promise<void> {}
}
