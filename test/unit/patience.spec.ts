import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from '@jest/globals';
import type { Exchange } from '../../lib/http/request-facts.js';
import { patienceOf, presenceOf } from '../../lib/nest/patience.js';
import type { ResolvedRoute } from '../../lib/nest/resolve-options.js';

const patience = (waitMs: number, ...prefer: string[]) =>
  patienceOf(
    { waitMs } as ResolvedRoute,
    { request: { header: (name: string) => (name === 'prefer' ? prefer : []) } } as unknown as Exchange,
  );

describe('how long a request waits', () => {
  it.each<[string[], number, number | undefined]>([
    [[], 10_000, undefined],
    [['wait=3'], 3000, 3],
    [['wait=0'], 0, 0],
    [['wait=600'], 10_000, 600],
    [['respond-async, wait=3'], 3000, 3],
    [['respond-async', 'wait=3'], 3000, 3],
    [['wait=3;foo="bar"'], 3000, 3],
    [['handling=lenient; wait=3'], 10_000, undefined],
    [['Wait=3'], 10_000, undefined],
    [['wait="3"'], 10_000, undefined],
    [['wait=-3'], 10_000, undefined],
    [['wait=1.5'], 10_000, undefined],
    [['wait'], 10_000, undefined],
    [['wait=3,,'], 10_000, undefined],
    [['\u0000'], 10_000, undefined],
  ])('with Prefer %j on a route that waits ten seconds', (prefer, waitMs, applied) => {
    expect(patience(10_000, ...prefer)).toEqual({ waitMs, applied });
  });

  it('is nothing on a route that does not wait, and no preference was honoured', () => {
    expect(patience(0, 'wait=3')).toEqual({ waitMs: 0, applied: undefined });
    expect(patience(0, 'wait=0')).toEqual({ waitMs: 0, applied: undefined });
  });
});

describe('a client', () => {
  const aResponse = (destroyed = false) => Object.assign(new EventEmitter(), { destroyed }) as unknown as ServerResponse & EventEmitter;

  it('is there until its response closes', () => {
    const response = aResponse();
    const { signal } = presenceOf(response);
    expect(signal.aborted).toBe(false);
    response.emit('close');
    expect(signal.aborted).toBe(true);
  });

  it('may have gone before anybody looked', () => {
    expect(presenceOf(aResponse(true)).signal.aborted).toBe(true);
    const overHttp2 = Object.assign(new EventEmitter(), { stream: { destroyed: true } }) as unknown as ServerResponse;
    expect(presenceOf(overHttp2).signal.aborted).toBe(true);
  });

  it('is not looked after any longer than need be', () => {
    const response = aResponse();
    const { signal, release } = presenceOf(response);
    release();
    expect(response.listenerCount('close')).toBe(0);
    response.emit('close');
    expect(signal.aborted).toBe(false);
  });
});
