/** Metrics in the text that Prometheus reads, named as OpenTelemetry's own exporter for it names them. */
import type { Attributes } from '@opentelemetry/api';
import { DataPointType } from '@opentelemetry/sdk-metrics';
import type { Histogram, MetricData } from '@opentelemetry/sdk-metrics';

export function prometheusText(metrics: readonly MetricData[]): string {
  return metrics.map((metric) => [...linesOf(metric), ''].join('\n')).join('');
}

function linesOf(metric: MetricData): string[] {
  const { name: dotted, description, unit } = metric.descriptor;
  const base = plain(dotted) + (unit === 's' ? '_seconds' : '');
  switch (metric.dataPointType) {
    case DataPointType.SUM: {
      const name = metric.isMonotonic ? `${base}_total` : base;
      const points = metric.dataPoints.map(({ attributes, value }) => `${name}${labels(attributes)} ${value}`);
      return [...head(name, description, metric.isMonotonic ? 'counter' : 'gauge'), ...points];
    }
    case DataPointType.HISTOGRAM:
      return [
        ...head(base, description, 'histogram'),
        ...metric.dataPoints.flatMap(({ attributes, value }) => histogramLines(base, attributes, value)),
      ];
    default:
      return []; // the shop has no other kinds
  }
}

/** Prometheus counts what is up to each boundary, OpenTelemetry what lies between two. */
function histogramLines(name: string, attributes: Attributes, { buckets, count, sum }: Histogram): string[] {
  let upTo = 0;
  const lines = buckets.boundaries.map((boundary, i) => {
    upTo += buckets.counts[i] ?? 0;
    return `${name}_bucket${labels({ ...attributes, le: boundary })} ${upTo}`;
  });
  return [
    ...lines,
    `${name}_bucket${labels({ ...attributes, le: '+Inf' })} ${count}`,
    `${name}_sum${labels(attributes)} ${sum ?? 0}`,
    `${name}_count${labels(attributes)} ${count}`,
  ];
}

function head(name: string, description: string, type: string): string[] {
  return [`# HELP ${name} ${description}`, `# TYPE ${name} ${type}`];
}

function labels(attributes: Attributes): string {
  const pairs = Object.entries(attributes).map(([name, value]) => `${plain(name)}="${escape(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function plain(name: string): string {
  return name.replace(/\W/g, '_');
}

function escape(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}
