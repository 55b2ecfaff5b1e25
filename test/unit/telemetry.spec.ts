import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { channel } from 'node:diagnostics_channel';
import { DataPointType } from '@opentelemetry/sdk-metrics';
import { IDEMPOTENCY_EVENT_TYPES } from '../../lib/contract/events.js';
import type { IdempotencyEvent } from '../../lib/contract/events.js';
import { observeIdempotency } from '../../lib/telemetry/index.js';
import { Meters, Spans } from '../support/telemetry.js';

const HANDLER = 'Payments.create';
const WHOSE = { handler: HANDLER, operation: '', scopeDigest: '0011223344556677', keyDigest: '8899aabbccddeeff' } as const;
const AT_WORK = { ...WHOSE, attempt: 1 } as const;

const say = (event: IdempotencyEvent): void => channel(`nestjs-idempotency-pg:${event.type}`).publish(event);
const isHeard = (): boolean => IDEMPOTENCY_EVENT_TYPES.some((type) => channel(`nestjs-idempotency-pg:${type}`).hasSubscribers);

let meters: Meters;
let stop: () => void;

beforeEach(() => {
  meters = new Meters();
  stop = observeIdempotency({ meterProvider: meters.provider });
});
afterEach(() => stop());

describe('what is measured', () => {
  it('counts requests by handler, outcome and code', async () => {
    say({ type: 'claimed', ...AT_WORK });
    say({ type: 'replayed', ...WHOSE });
    say({ type: 'replayed', ...WHOSE });
    say({ type: 'rejected', handler: HANDLER, code: 'IDEMPOTENCY_KEY_REQUIRED' });
    expect(await meters.series('idempotency.requests')).toEqual([
      { attributes: { 'idempotency.handler': HANDLER, 'idempotency.outcome': 'claimed' }, value: 1 },
      { attributes: { 'idempotency.handler': HANDLER, 'idempotency.outcome': 'replayed' }, value: 2 },
      {
        attributes: { 'idempotency.handler': HANDLER, 'idempotency.outcome': 'rejected', 'error.type': 'IDEMPOTENCY_KEY_REQUIRED' },
        value: 1,
      },
    ]);
  });

  it('counts a request once, though it is answered otherwise when its execution has been superseded', async () => {
    say({ type: 'claimed', ...AT_WORK });
    say({ type: 'lock-lost', ...AT_WORK });
    say({ type: 'replayed', ...AT_WORK });
    expect(await meters.byOutcome('idempotency.requests')).toEqual({ claimed: 1 });
    expect(await meters.byOutcome('idempotency.executions')).toEqual({ superseded: 1 });
  });

  it.each([
    ['completed', 'completed'],
    ['sealed', 'sealed'],
    ['released', 'released'],
    ['lock-lost', 'superseded'],
    ['store-failed', 'unrecorded'],
    ['rejected', 'rejected'],
  ] as const)('lets the gauge go down at %s, and counts the execution as %s', async (type, outcome) => {
    say({ type: 'claimed', ...AT_WORK });
    expect(await meters.total('idempotency.active_executions')).toBe(1);
    say({ type, ...AT_WORK });
    expect(await meters.total('idempotency.active_executions')).toBe(0);
    expect(await meters.byOutcome('idempotency.executions')).toEqual({ [outcome]: 1 });
  });

  it('lets the gauge go down once, whatever is told of an execution after its end', async () => {
    say({ type: 'claimed', ...AT_WORK });
    say({ type: 'store-failed', ...AT_WORK });
    say({ type: 'completed', ...AT_WORK, handlerMs: 1, completionMs: 1 });
    expect(await meters.total('idempotency.active_executions')).toBe(0);
    expect(await meters.byOutcome('idempotency.executions')).toEqual({ unrecorded: 1 });
  });

  it('knows nothing of executions that began before it listened', async () => {
    say({ type: 'completed', ...AT_WORK, handlerMs: 1, completionMs: 1 });
    expect(await meters.total('idempotency.active_executions')).toBe(0);
  });

  it('takes seconds for claim, handler, completion and wait', async () => {
    say({ type: 'claimed', ...AT_WORK, durationMs: 2, waitedMs: 1500 });
    say({ type: 'completed', ...AT_WORK, durationMs: 262, handlerMs: 250, completionMs: 10 });
    const [claim] = await meters.series('idempotency.claim.duration');
    const [handler] = await meters.series('idempotency.handler.duration');
    const [completion] = await meters.series('idempotency.completion.duration');
    const [wait] = await meters.series('idempotency.wait.duration');
    expect([claim?.sum, handler?.sum, completion?.sum, wait?.sum]).toEqual([0.002, 0.25, 0.01, 1.5]);
    const histograms = (await meters.all()).filter(({ dataPointType }) => dataPointType === DataPointType.HISTOGRAM);
    expect(histograms.map(({ descriptor }) => descriptor.unit)).toEqual(['s', 's', 's', 's']);
  });

  it('takes the time of a replay for a look at the store, unless it waited', async () => {
    say({ type: 'replayed', ...WHOSE, durationMs: 4 });
    say({ type: 'replayed', ...WHOSE, durationMs: 2004, waitedMs: 2000 });
    expect(await meters.series('idempotency.claim.duration')).toMatchObject([{ value: 1, sum: 0.004 }]);
    expect(await meters.series('idempotency.wait.duration')).toMatchObject([{ value: 1, sum: 2 }]);
  });

  it('gives each histogram buckets that fit: the SDK’s own ones are for milliseconds', async () => {
    say({ type: 'claimed', ...AT_WORK, durationMs: 2, waitedMs: 1 });
    say({ type: 'completed', ...AT_WORK, handlerMs: 1, completionMs: 1 });
    for (const metric of await meters.all()) {
      if (metric.dataPointType !== DataPointType.HISTOGRAM) continue;
      const { boundaries } = metric.dataPoints[0]!.value.buckets;
      expect(boundaries[0]).toBeLessThanOrEqual(0.005);
      expect(boundaries).toEqual([...boundaries].sort((a, b) => a - b));
    }
  });

  it('tells store failures by when they came', async () => {
    say({ type: 'store-failed', code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    say({ type: 'store-failed', ...WHOSE, code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    say({ type: 'store-failed', ...AT_WORK, code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
    const phases = (await meters.series('idempotency.store.failures')).map(({ attributes }) => attributes['idempotency.phase']);
    expect(phases).toEqual(['renewal', 'claim', 'completion']);
  });

  it('counts the records that were reaped', async () => {
    say({ type: 'reaped', removed: 12, durationMs: 3 });
    expect(await meters.total('idempotency.records.reaped')).toBe(12);
  });

  it('has no attribute that tells requests with different keys apart', async () => {
    for (const type of IDEMPOTENCY_EVENT_TYPES) say({ type, ...AT_WORK, code: 'X', durationMs: 1, waitedMs: 1 });
    expect(JSON.stringify(await meters.all())).not.toMatch(new RegExp(`${WHOSE.keyDigest}|${WHOSE.scopeDigest}`));
  });
});

describe('when it is stopped', () => {
  it('listens to nothing any more, so that nobody makes events', () => {
    expect(isHeard()).toBe(true);
    stop();
    expect(isHeard()).toBe(false);
    stop();
  });

  it('leaves the gauge at zero', async () => {
    say({ type: 'claimed', ...AT_WORK });
    stop();
    expect(await meters.total('idempotency.active_executions')).toBe(0);
  });
});

describe('the active span', () => {
  const spans = new Spans();
  beforeEach(() => spans.open());
  afterEach(() => {
    spans.close();
    spans.forget();
  });

  const tellWithin = async (...events: IdempotencyEvent[]) => {
    await spans.around('POST /payments', async () => events.forEach(say));
    return spans.finished[0]!;
  };

  it('has the outcome and the attempt, and an event for each thing that happened', async () => {
    const span = await tellWithin({ type: 'taken-over', ...AT_WORK, attempt: 2 }, { type: 'completed', ...AT_WORK, attempt: 2 });
    expect(span.attributes).toEqual({ 'idempotency.handler': HANDLER, 'idempotency.outcome': 'taken-over', 'idempotency.attempt': 2 });
    expect(span.events.map(({ name }) => name)).toEqual(['idempotency.taken-over', 'idempotency.completed']);
  });

  it('has the code of a refusal, and how long it waited', async () => {
    const span = await tellWithin({ type: 'rejected', ...WHOSE, code: 'IDEMPOTENCY_KEY_IN_USE', waitedMs: 500 });
    expect(span.events[0]?.attributes).toEqual({ 'error.type': 'IDEMPOTENCY_KEY_IN_USE', 'idempotency.waited': 0.5 });
  });

  it('does not hear what a timer tells of another request', async () => {
    const span = await tellWithin({ type: 'lock-lost', ...AT_WORK }, { type: 'reaped', removed: 1 }, { type: 'store-failed', code: 'X' });
    expect([span.attributes, span.events]).toEqual([{}, []]);
  });

  it('has digests only if it is asked for', async () => {
    expect(JSON.stringify((await tellWithin({ type: 'claimed', ...AT_WORK })).attributes)).not.toContain(WHOSE.keyDigest);
    stop();
    spans.forget();
    stop = observeIdempotency({ meterProvider: meters.provider, digests: true });
    const span = await tellWithin({ type: 'claimed', ...AT_WORK });
    expect(span.attributes).toMatchObject({
      'idempotency.key.digest': WHOSE.keyDigest,
      'idempotency.scope.digest': WHOSE.scopeDigest,
    });
  });

  it('is left alone if it is asked for', async () => {
    stop();
    stop = observeIdempotency({ meterProvider: meters.provider, spans: false });
    expect((await tellWithin({ type: 'claimed', ...AT_WORK })).events).toEqual([]);
  });
});
