import { beforeEach, describe, expect, it } from '@jest/globals';
import type { CallHandler, ExecutionContext } from '@nestjs/common';
import { NEVER, Observable, Subject, of, retry, throwError } from 'rxjs';
import type { Subscriber } from 'rxjs';
import { KeyInUse } from '../../lib/contract/errors.js';
import type { IdempotentExecution } from '../../lib/contract/execution.js';
import type { Engine } from '../../lib/engine/engine.js';
import { currentExecution, executionFor, isInStep, withinStep } from '../../lib/nest/context.js';
import { Unguarded } from '../../lib/nest/passing.js';
import type { Wording } from '../../lib/nest/passing.js';
import type { IdempotentRoute } from '../../lib/nest/routes.js';
import { UnkeyedRequest } from '../../lib/nest/unkeyed-request.js';
import { anExecution, fakeStore } from './engine-fixture.js';

const SLOT = Symbol.for('nestjs-idempotency-pg.frames.v2');
const stays = () => (Reflect.get(globalThis, SLOT) ?? { inside: 0, outside: 0 }) as { probation: number; inside: number; outside: number };

const native = {};
const context = { getArgByIndex: () => native } as unknown as ExecutionContext;
const wording: Wording = (_context, error) => new Error(`worded ${error.code}`);

let made = 0;
const instance = {};
const engine = { unkeyed: () => ((made += 1), anExecution()) } as unknown as Engine;
const route = { token: {}, settings: { handler: 'Shop.pay' } } as unknown as IdempotentRoute;
const unkeyed = (below: () => Observable<unknown>, how = wording): Observable<unknown> =>
  new UnkeyedRequest({ engine, store: fakeStore(), instance, wording: how }, route, context, { handle: below } satisfies CallHandler);

/** Everything that the one above hears. */
function heard(from: Observable<unknown>): unknown[] {
  const all: unknown[] = [];
  from.subscribe({ next: (value) => all.push(value), error: (error: Error) => all.push(error.message), complete: () => all.push('end') });
  return all;
}

beforeEach(() => {
  Reflect.deleteProperty(globalThis, SLOT);
  made = 0;
});

describe.each<[string, (below: () => Observable<unknown>, how?: Wording) => Observable<unknown>]>([
  ['that is none of ours', (below, how = wording) => new Unguarded(below(), context, how)],
  ['without a key', unkeyed],
])('a request %s', (_which, passed) => {
  it('gets what comes from below as it is', () => {
    expect(heard(passed(() => of(1, undefined, 'two')))).toEqual([1, undefined, 'two', 'end']);
    const own = new Error('own');
    expect(heard(passed(() => throwError(() => own)))).toEqual(['own']);
  });

  it('gets the library’s errors worded, or the reason why they could not be', () => {
    const failing = (how?: Wording): unknown[] => {
      const source = new Subject<unknown>();
      const all = heard(passed(() => source, how));
      source.error(new KeyInUse(1000));
      return all;
    };
    expect(failing()).toEqual(['worded IDEMPOTENCY_KEY_IN_USE']);
    const sent: Wording = () => {
      throw new Error('headers were sent');
    };
    expect(failing(sent)).toEqual(['headers were sent']);
  });

  it('tears down what is below with the one above, once, and hears no more of it', () => {
    let tornDown = 0;
    let below: Subscriber<unknown> | undefined;
    const source = new Observable<unknown>((subscriber) => {
      below = subscriber;
      return () => (tornDown += 1);
    });
    const all: unknown[] = [];
    const subscription = passed(() => source).subscribe((value) => all.push(value));
    below?.next(1);
    expect([below?.closed, tornDown]).toEqual([false, 0]);
    subscription.unsubscribe();
    below?.next(2);
    expect([all, below?.closed, tornDown]).toEqual([[1], true, 1]);
  });

  it('adds no subscriber to those that are there', () => {
    const there: Subscriber<unknown>[] = [];
    const source = new Observable<unknown>((subscriber) => void there.push(subscriber));
    const outer = new Observable<unknown>((subscriber) => (there.push(subscriber), passed(() => source).subscribe(subscriber)));
    outer.subscribe();
    const [above, below] = there;
    const teardown = (): void => undefined;
    below?.add(teardown);
    expect(Reflect.get(above as object, '_finalizers')).toContain(teardown);
  });
});

describe('a request without a key', () => {
  it('makes no execution that nobody asks for, and one for all calls of its handler', () => {
    heard(unkeyed(() => of(1)));
    expect(made).toBe(0);
    const seen = new Set<unknown>();
    let calls = 0;
    const handler = (): Observable<unknown> => {
      const execution = executionFor(native);
      seen.add(execution).add(currentExecution(instance));
      expect(execution?.attempt).toBe(1);
      calls += 1;
      return calls < 3 ? throwError(() => new Error('again')) : of(calls);
    };
    expect(heard(unkeyed(handler).pipe(retry(2)))).toEqual([3, 'end']);
    expect([seen.size, made]).toEqual([1, 1]);
  });

  it.each<[string, number]>([
    ['where a context is kept', 1000],
    ['where none is', 0],
  ])('is known within a step’s work %s', (_where, probation) => {
    heard(unkeyed(() => of(1))); // which makes what is kept
    stays().probation = probation;
    const within: unknown[] = [];
    let execution: IdempotentExecution | undefined;
    heard(
      unkeyed(() => {
        execution = executionFor(native);
        within.push(withinStep(execution as IdempotentExecution, () => [currentExecution(instance), isInStep()]));
        return of(1);
      }),
    );
    expect(execution).toBeDefined();
    expect(within).toEqual([[execution, true]]);
  });

  it.each<[string, () => Observable<unknown>]>([
    ['its handler ends', () => of(1)],
    ['its handler fails', () => throwError(() => new Error('failed'))],
    ['the one above gives up', () => NEVER],
  ])('is at work until %s', (_when, below) => {
    for (const probation of [1000, 0]) {
      let during = 0;
      const handler = (): Observable<unknown> => ((during = stays().inside + stays().outside), below());
      heard(unkeyed(() => of(1))); // which makes what is kept
      stays().probation = probation;
      const subscription = unkeyed(handler).subscribe({ error: () => undefined });
      subscription.unsubscribe();
      expect([during, stays().inside, stays().outside]).toEqual([1, 0, 0]);
    }
  });
});
