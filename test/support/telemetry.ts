/** OpenTelemetry's own SDK, read from memory, and the context manager that an application has from its Node package. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Server } from 'node:http';
import { ROOT_CONTEXT, context, trace } from '@opentelemetry/api';
import type { Attributes, Context, ContextManager } from '@opentelemetry/api';
import { DataPointType, MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import type { Histogram, MetricData } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base';

class OnDemand extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

export interface Series {
  readonly attributes: Attributes;
  /** A counter's or gauge's value, or how often a histogram was recorded to. */
  readonly value: number;
  /** Of a histogram. */
  readonly sum?: number | undefined;
}

export class Meters {
  readonly #reader = new OnDemand();
  readonly provider = new MeterProvider({ readers: [this.#reader] });

  async all(): Promise<MetricData[]> {
    const { resourceMetrics } = await this.#reader.collect();
    return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics);
  }

  async series(name: string): Promise<Series[]> {
    const metric = (await this.all()).find(({ descriptor }) => descriptor.name === name);
    if (metric === undefined) return [];
    if (metric.dataPointType === DataPointType.SUM) return metric.dataPoints.map(({ attributes, value }) => ({ attributes, value }));
    return metric.dataPoints.map(({ attributes, value }) => {
      const { count, sum } = value as Histogram;
      return { attributes, value: count, sum };
    });
  }

  /** By outcome, all handlers together. */
  async byOutcome(name: string): Promise<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const { attributes, value } of await this.series(name)) {
      const outcome = String(attributes['idempotency.outcome']);
      sums[outcome] = (sums[outcome] ?? 0) + value;
    }
    return sums;
  }

  async total(name: string): Promise<number> {
    return (await this.series(name)).reduce((sum, { value }) => sum + value, 0);
  }
}

/** One span around every request, as the instrumentation of `http` makes it. */
export class Spans {
  readonly #exporter = new InMemorySpanExporter();
  readonly #provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(this.#exporter)] });

  open(): void {
    context.setGlobalContextManager(new AsyncContexts());
  }

  close(): void {
    context.disable();
  }

  get finished(): ReadableSpan[] {
    return this.#exporter.getFinishedSpans();
  }

  forget(): void {
    this.#exporter.reset();
  }

  /** Runs `work` with a span that is active, which ends with it. */
  async around(name: string, work: () => Promise<void>): Promise<void> {
    const span = this.#provider.getTracer('test').startSpan(name);
    await context.with(trace.setSpan(ROOT_CONTEXT, span), work);
    span.end();
  }

  watch(server: Server): void {
    const emit = server.emit.bind(server) as (event: string, ...args: unknown[]) => boolean;
    server.emit = (event: string, ...args: unknown[]): boolean => {
      if (event !== 'request') return emit(event, ...args);
      const [request, response] = args as [{ url: string }, { once(event: 'close', heard: () => void): void }];
      const span = this.#provider.getTracer('test').startSpan(request.url);
      response.once('close', () => span.end());
      return context.with(trace.setSpan(ROOT_CONTEXT, span), () => emit(event, ...args));
    };
  }
}

class AsyncContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();

  active(): Context {
    return this.#storage.getStore() ?? ROOT_CONTEXT;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    current: Context,
    work: F,
    self?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#storage.run(current, () => work.apply(self, args));
  }

  bind<T>(_current: Context, target: T): T {
    return target; // nobody here binds
  }

  enable(): this {
    return this;
  }

  disable(): this {
    this.#storage.disable();
    return this;
  }
}
