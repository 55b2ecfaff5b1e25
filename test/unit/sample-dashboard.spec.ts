/** The sample's dashboard and alerts ask for series that exist, by labels that exist. */
import { readFileSync } from 'node:fs';
import { channel } from 'node:diagnostics_channel';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { IDEMPOTENCY_EVENT_TYPES } from '../../lib/contract/events.js';
import type { IdempotencyEvent } from '../../lib/contract/events.js';
import { observeIdempotency } from '../../lib/telemetry/index.js';
import { prometheusText } from '../../sample-app/telemetry/prometheus-text.js';
import { Meters } from '../support/telemetry.js';

const FOLDER = 'sample-app/telemetry';

const LABEL_MATCHER = /(\w+)=~?"/g;

let scrape: string;

beforeAll(async () => {
  const meters = new Meters();
  const stop = observeIdempotency({ meterProvider: meters.provider });
  const say = (event: IdempotencyEvent): void => channel(`nestjs-idempotency-pg:${event.type}`).publish(event);
  const one = { handler: 'Payments.pay', attempt: 1, durationMs: 1, handlerMs: 1, completionMs: 1, waitedMs: 1 };
  for (const type of IDEMPOTENCY_EVENT_TYPES) {
    say({ type: 'claimed', ...one });
    say({ type, ...one }); // an execution that begins and ends with this
  }
  say({ type: 'store-failed' });
  say({ type: 'store-failed', handler: 'Payments.pay' });
  say({ type: 'rejected', handler: 'Payments.pay', code: 'IDEMPOTENCY_KEY_IN_USE' });
  say({ type: 'rejected', handler: 'Pay\n"ments"\\', code: 'IDEMPOTENCY_KEY_REQUIRED' });
  scrape = prometheusText(await meters.all());
  stop();
});

/** Everything that can be asked for. */
const seriesNames = (): Set<string> => new Set(scrape.match(/^\w+/gm));
const labelNames = (): Set<string | undefined> => new Set([...scrape.matchAll(LABEL_MATCHER)].map(([, name]) => name));

interface Asked {
  readonly series: string[];
  readonly labels: string[];
  /** Such as `idempotency_phase="claim"`. */
  readonly values: string[];
}

/** Labels are what stands in a matcher or behind `by`. A matcher with several values asks for each of them. */
function asked(expression: string): Asked {
  const by = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = '']) => names.split(/,\s*/));
  const matched = [...expression.matchAll(LABEL_MATCHER)].map(([, name]) => name ?? '');
  const labels = [...new Set([...by, ...matched])];
  const series = (expression.match(/\bidempotency_\w+/g) ?? []).filter((name) => !labels.includes(name));
  const values = [...expression.matchAll(/(\w+)=~?"([^"$]+)"/g)].flatMap(([, label, texts = '']) =>
    texts.split('|').map((text) => `${label}="${text}"`),
  );
  return { series, labels, values };
}

const dashboard = JSON.parse(readFileSync(`${FOLDER}/grafana-dashboard.json`, 'utf8')) as {
  panels: { title: string; targets: { expr: string }[] }[];
};
const expressions = dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }): [string, string] => [title, expr]));
const rules = readFileSync(`${FOLDER}/alerts.yaml`, 'utf8')
  .split(/^ {6}- alert: /m)
  .slice(1);
const alerts = rules.map((rule): [string, string] => [rule.split('\n')[0] ?? '', /expr:([^]*?)\n {8}\w+:/.exec(rule)?.[1] ?? '']);

describe.each([
  ['dashboard', expressions],
  ['alerts', alerts],
])('the %s', (_name, all) => {
  it('has something to show', () => expect(all.length).toBeGreaterThan(4));

  it.each(all)('“%s” asks for what there is', (_title, expression) => {
    const { series, labels, values } = asked(expression);
    expect(series).not.toHaveLength(0);
    expect([...seriesNames()]).toEqual(expect.arrayContaining(series));
    expect([...labelNames()]).toEqual(expect.arrayContaining(labels));
    for (const value of values) expect(scrape).toContain(value);
  });
});

describe('the dashboard', () => {
  it('leaves out nothing that is measured', () => {
    const shown = new Set(expressions.flatMap(([, expression]) => asked(expression).series));
    const counted = [...seriesNames()].filter((name) => !/_(sum|count)$/.test(name));
    expect(counted.filter((name) => !shown.has(name))).toEqual([]);
  });
});

describe('the text for Prometheus', () => {
  it('counts a histogram’s buckets up', () => {
    const buckets = scrape.split('\n').filter((line) => line.startsWith('idempotency_handler_duration_seconds_bucket'));
    expect(buckets[0]).toBe(
      'idempotency_handler_duration_seconds_bucket{idempotency_handler="Payments.pay",idempotency_outcome="completed",le="0.005"} 1',
    );
    expect(buckets.at(-1)).toMatch(/le="\+Inf"\} 1$/);
  });

  it('escapes what would end a label', () => {
    expect(scrape).toContain(String.raw`idempotency_handler="Pay\n\"ments\"\\"`);
  });
});
