import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { channel } from 'node:diagnostics_channel';
import { Logger } from '@nestjs/common';
import type { LoggerService } from '@nestjs/common';
import { StoreUnavailable } from '../../lib/contract/errors.js';
import { IDEMPOTENCY_EVENT_TYPES } from '../../lib/contract/events.js';
import type { IdempotencyEvent, IdempotencyEventType } from '../../lib/contract/events.js';
import { Observer } from '../../lib/engine/observer.js';
import { IdempotencyEvents } from '../../lib/nest/events.js';
import { anAdmission, anExecution, EventLog } from './engine-fixture.js';
import { ManualClock } from '../support/manual-clock.js';

const lines: string[] = [];
const hear = (message: unknown): void => void lines.push(String(message));
const listening: LoggerService = { log: hear, warn: hear, error: hear, debug: hear, verbose: hear, fatal: hear };

beforeEach(() => Logger.overrideLogger(listening));
afterEach(() => {
  Logger.overrideLogger(false);
  lines.length = 0;
});

const LOGGED = ['lock-lost', 'store-failed'] satisfies IdempotencyEventType[];
const QUIET = IDEMPOTENCY_EVENT_TYPES.filter((type) => !(LOGGED as IdempotencyEventType[]).includes(type));

describe('IdempotencyEvents', () => {
  it('wants what nobody listens to only where it is logged', () => {
    const events = new IdempotencyEvents();
    expect(IDEMPOTENCY_EVENT_TYPES.filter((type) => events.wants(type))).toEqual(LOGGED);
  });

  it('wants everything while somebody is subscribed to the stream', () => {
    const events = new IdempotencyEvents();
    const subscription = events.events$.subscribe();
    expect(IDEMPOTENCY_EVENT_TYPES.every((type) => events.wants(type))).toBe(true);
    subscription.unsubscribe();
    expect(events.wants('claimed')).toBe(false);
  });

  it('wants one type while somebody is subscribed to its channel', () => {
    const events = new IdempotencyEvents();
    const listener = (): void => undefined;
    channel('nestjs-idempotency-pg:replayed').subscribe(listener);
    expect([events.wants('replayed'), events.wants('claimed')]).toEqual([true, false]);
    channel('nestjs-idempotency-pg:replayed').unsubscribe(listener);
    expect(events.wants('replayed')).toBe(false);
  });

  it.each(IDEMPOTENCY_EVENT_TYPES)('gives %s to the stream and to its own channel, the same object', (type) => {
    const events = new IdempotencyEvents();
    const [streamed, published]: [IdempotencyEvent[], unknown[]] = [[], []];
    const listener = (message: unknown): void => void published.push(message);
    events.events$.subscribe((event) => streamed.push(event));
    channel(`nestjs-idempotency-pg:${type}`).subscribe(listener);
    const event: IdempotencyEvent = { type, handler: 'Payments.create' };
    events.emit(event);
    channel(`nestjs-idempotency-pg:${type}`).unsubscribe(listener);
    expect(streamed).toEqual([event]);
    expect(published[0]).toBe(event);
  });

  it('completes the stream when it is closed', () => {
    const events = new IdempotencyEvents();
    let completed = false;
    events.events$.subscribe({ complete: () => (completed = true) });
    events.close();
    expect(completed).toBe(true);
  });
});

describe('the log', () => {
  it.each(LOGGED)('tells of %s, with the handler and the key’s digest', (type) => {
    new IdempotencyEvents().emit({ type, handler: 'Payments.create', keyDigest: '0123456789abcdef' });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('(Payments.create, key digest 0123456789abcdef)');
  });

  it.each(QUIET)('does not tell of %s', (type) => {
    new IdempotencyEvents().emit({ type, handler: 'Payments.create' });
    expect(lines).toHaveLength(0);
  });

  it('names class and code of what was behind it, and never a message, which may quote a row', () => {
    const cause = Object.assign(new Error('Key (key)=(my-secret-key) already exists.'), { code: '23505' });
    new IdempotencyEvents().emit({ type: 'store-failed' }, new StoreUnavailable({ cause }));
    expect(lines[0]).toContain('StoreUnavailable IDEMPOTENCY_STORE_UNAVAILABLE, Error 23505');
    expect(lines.join()).not.toContain('my-secret-key');
  });

  it('says nothing undefined of an event that is no handler’s', () => {
    new IdempotencyEvents().emit({ type: 'store-failed' });
    expect(lines[0]).not.toContain('undefined');
  });
});

describe('Observer', () => {
  it('tells keys and scopes apart without telling them', () => {
    const log = new EventLog();
    const observer = new Observer(log, new ManualClock());
    const execution = anExecution();
    observer.claimed(execution, false, execution);
    observer.settled(execution, { kind: 'free' });
    observer.claimed(anExecution(), false, anAdmission());

    const [claimed, released, other] = log.events;
    expect(claimed).toMatchObject({
      keyDigest: expect.stringMatching(/^[0-9a-f]{16}$/),
      scopeDigest: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    expect(released?.keyDigest).toBe(claimed?.keyDigest);
    expect(other?.keyDigest).not.toBe(claimed?.keyDigest);
    expect(other?.scopeDigest).toBe(claimed?.scopeDigest);
    expect(JSON.stringify(log.events)).not.toContain(execution.identity.key);
    expect(JSON.stringify(log.events)).not.toContain(execution.identity.scope);
  });

  it('makes nothing for nobody', () => {
    const emitted: IdempotencyEvent[] = [];
    const observer = new Observer({ wants: () => false, emit: (event) => emitted.push(event) }, new ManualClock());
    const execution = anExecution();
    observer.claimed(execution, true, execution);
    observer.leaseLost(execution);
    observer.renewalFailed(new Error());
    expect(emitted).toHaveLength(0);
  });
});
