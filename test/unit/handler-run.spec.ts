import { describe, expect, it, jest } from '@jest/globals';
import { EMPTY, Observable, Subject, of, throwError } from 'rxjs';
import { HandlerRun } from '../../lib/nest/handler-run.js';
import { atRest } from '../support/manual-clock.js';
import { gate } from './engine-fixture.js';

function aRun() {
  const gave: unknown[] = [];
  const ended = jest.fn<() => void>();
  return { run: new HandlerRun({ gave: (value) => gave.push(value), ended }), gave, ended };
}

const bug = new Error('a bug');

function fail(): never {
  throw bug;
}

describe('a run', () => {
  it('has not begun until the handler is called', () => {
    const { run } = aRun();
    expect([run.begun, run.atWork, run.fulfilled]).toEqual([false, false, false]);
    let seen: unknown[] = [];
    run.follow(() => (seen = [run.begun, run.atWork, run.fulfilled]));
    expect(seen).toEqual([true, true, false]);
  });

  it('hands on what a plain handler returns, as it is, and is over with it', () => {
    const { run, gave, ended } = aRun();
    const value = { id: 1 };
    expect(run.follow(() => value)).toBe(value);
    expect([run.atWork, run.fulfilled, run.error]).toEqual([false, true, undefined]);
    expect(gave).toEqual([value]);
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it('calls the handler as it was called itself', () => {
    const controller = { currency: 'EUR' };
    const handler = function (this: unknown, amount: unknown) {
      return [this, amount];
    };
    expect(aRun().run.follow(handler, controller, [100])).toEqual([controller, 100]);
    const begins = jest.fn<() => void>();
    const repetition = { begins, done: () => undefined, failed: async (error: unknown) => ({ error }) };
    const repeatable = new HandlerRun({ gave: () => undefined, ended: () => undefined, repetition });
    return expect(repeatable.follow(handler, controller, [100])).resolves.toEqual([controller, 100]);
  });

  it.each<[string, () => unknown]>([
    ['a plain handler', () => 'paid'],
    ['a promise', async () => 'paid'],
    ['an Observable', () => of('paid')],
  ])('has failed if what %s gave can’t be looked at', async (_, handler) => {
    const ended = jest.fn<() => void>();
    const run = new HandlerRun({ gave: fail, ended });
    await expect((async () => run.follow(handler))()).rejects.toBe(bug);
    expect([run.error, run.fulfilled, run.atWork, ended.mock.calls.length]).toEqual([bug, false, false, 1]);
  });

  it('is at work until a promise is settled', async () => {
    const { run, gave, ended } = aRun();
    const { promise, open } = gate<string>();
    const result = run.follow(() => promise);
    await atRest();
    expect([run.atWork, run.fulfilled, ended.mock.calls.length]).toEqual([true, false, 0]);
    open('paid');
    expect(await result).toBe('paid');
    expect([run.atWork, run.fulfilled]).toEqual([false, true]);
    expect(gave).toEqual(['paid']);
  });

  it.each<[string, () => unknown]>([
    ['thrown', () => fail()],
    ['rejected', async () => Promise.reject(bug)],
    ['emitted by an Observable', () => throwError(() => bug)],
    ['emitted by an Observable in a promise', async () => throwError(() => bug)],
  ])('notes the very error that was %s, and hands it on', async (_, handler) => {
    const { run, gave, ended } = aRun();
    await expect((async () => run.follow(handler))()).rejects.toBe(bug);
    expect([run.error, run.fulfilled, run.atWork]).toEqual([bug, false, false]);
    expect(gave).toEqual([]);
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it.each<[string, () => unknown]>([
    ['an Observable', () => of(1, 2, 3)],
    ['a promise of one', async () => of(1, 2, 3)],
  ])('makes of %s its last value', async (_, handler) => {
    const { run, gave } = aRun();
    expect(await run.follow(handler)).toBe(3);
    expect(gave).toEqual([3]);
  });

  it('subscribes to an Observable once, at once, and stays with it: nobody above can stop it half-way', async () => {
    const { run } = aRun();
    const subject = new Subject<string>();
    let subscriptions = 0;
    let torn = 0;
    const watched = new Observable<string>((subscriber) => {
      subscriptions += 1;
      const subscription = subject.subscribe(subscriber);
      return () => {
        torn += 1;
        subscription.unsubscribe();
      };
    });
    const result = run.follow(() => watched) as Promise<unknown>;
    await atRest();
    expect([subscriptions, torn, run.atWork]).toEqual([1, 0, true]);
    subject.next('late');
    subject.complete();
    expect(await result).toBe('late');
    expect([subscriptions, torn]).toEqual([1, 1]);
  });

  it('does with an Observable without a value as Nest does without us: it is an error', async () => {
    const { run } = aRun();
    await expect(run.follow(() => EMPTY)).rejects.toMatchObject({ name: 'EmptyError' });
    expect(run.fulfilled).toBe(false);
  });
});

describe('a run that was closed', () => {
  it('refuses the handler, which then has not begun', () => {
    const { run, ended } = aRun();
    const handler = jest.fn();
    run.close();
    expect(() => run.follow(handler)).toThrow('given up before its handler began');
    expect(handler).not.toHaveBeenCalled();
    expect([run.begun, run.fulfilled, ended.mock.calls.length]).toEqual([false, false, 0]);
  });

  it('lets what is at work go on to its end', async () => {
    const { run } = aRun();
    const { promise, open } = gate<string>();
    const result = run.follow(() => promise);
    run.close();
    open('paid');
    expect(await result).toBe('paid');
    expect(run.fulfilled).toBe(true);
  });
});

describe('a handler that an interceptor calls again', () => {
  it('counts by its last end', async () => {
    const { run, ended } = aRun();
    await expect((async () => run.follow(async () => Promise.reject(bug)))()).rejects.toBe(bug);
    expect(run.error).toBe(bug);
    expect(await run.follow(async () => 'paid')).toBe('paid');
    expect([run.error, run.fulfilled]).toEqual([undefined, true]);
    expect(ended).toHaveBeenCalledTimes(2);
  });

  it('is at work until the last of several calls is over', async () => {
    const { run, ended } = aRun();
    const [first, second] = [gate(), gate()];
    const results = [run.follow(() => first.promise), run.follow(() => second.promise)];
    let idle = false;
    const becomingIdle = run.whenIdle().then(() => (idle = true));
    first.open();
    await atRest();
    expect([run.atWork, idle, ended.mock.calls.length]).toEqual([true, false, 0]);
    second.open();
    await Promise.all([...results, becomingIdle]);
    expect(run.atWork).toBe(false);
  });
});

describe('whenIdle', () => {
  it('does not wait for a handler that is not at work', async () => {
    const { run } = aRun();
    await run.whenIdle();
    run.follow(() => 'done');
    await run.whenIdle();
  });

  it('resolves for all who wait, whether the handler succeeded or not', async () => {
    const { run } = aRun();
    const { promise, fail } = gate();
    const result = run.follow(() => promise) as Promise<unknown>;
    const waiting = [run.whenIdle(), run.whenIdle()];
    fail(bug);
    await expect(result).rejects.toBe(bug);
    await Promise.all(waiting);
  });
});

describe('a run that may be repeated', () => {
  /** Passes `answers` on in turn. */
  function aRepeatable(...answers: ('again' | { readonly error: unknown })[]) {
    const errors: unknown[] = [];
    const gave: unknown[] = [];
    const ended = jest.fn<() => void>();
    const begins = jest.fn<() => void>();
    const done = jest.fn<(value: unknown) => Promise<void>>().mockResolvedValue();
    const failed = async (error: unknown) => {
      errors.push(error);
      return answers.shift() ?? { error };
    };
    const run = new HandlerRun({ gave: (value) => gave.push(value), ended, repetition: { begins, done, failed } });
    return { run, errors, gave, ended, begins, done };
  }

  it('is called again as often as it is said, and is one run all the while', async () => {
    const { run, errors, gave, ended } = aRepeatable('again', 'again');
    let calls = 0;
    const value = await run.follow(async () => {
      calls += 1;
      expect([run.atWork, run.fulfilled, run.error]).toEqual([true, false, undefined]);
      if (calls < 3) throw bug;
      return 'paid';
    });
    expect([value, calls, errors, gave]).toEqual(['paid', 3, [bug, bug], ['paid']]);
    expect(ended).toHaveBeenCalledTimes(1);
    expect([run.atWork, run.fulfilled, run.error]).toEqual([false, true, undefined]);
  });

  it.each<[string, () => unknown]>([
    ['throws', () => fail()],
    ['rejects', async () => Promise.reject(bug)],
    ['is an Observable that fails', () => throwError(() => bug)],
  ])('that %s ends with the error that is passed on', async (_, handler) => {
    const other = new Error('in other words');
    const { run, errors, ended } = aRepeatable({ error: other });
    await expect((async () => run.follow(handler))()).rejects.toBe(other);
    expect([run.error, errors]).toEqual([other, [bug]]);
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it('hands a plain value and an Observable’s last one on as a promise', async () => {
    expect(await aRepeatable().run.follow(() => 'paid')).toBe('paid');
    expect(await aRepeatable().run.follow(() => of('paying', 'paid'))).toBe('paid');
  });

  it('is told that it begins, once, before the handler is called', async () => {
    const { run, begins } = aRepeatable('again');
    let calls = 0;
    await run.follow(async () => {
      expect(begins).toHaveBeenCalledTimes(1);
      if ((calls += 1) === 1) throw bug;
    });
    expect([calls, begins.mock.calls.length]).toEqual([2, 1]);
  });

  it('counts what is wrong with its value as its failure, before anybody has seen it', async () => {
    const { run, errors, gave, done } = aRepeatable('again');
    done.mockRejectedValueOnce(bug);
    let calls = 0;
    expect(await run.follow(() => of('paying', (calls += 1)))).toBe(2);
    expect([done.mock.calls, errors, gave]).toEqual([[[1], [2]], [bug], [2]]);
  });

  it('is at work while its value is looked at', async () => {
    const { run, done } = aRepeatable();
    const { promise, open } = gate();
    done.mockReturnValueOnce(promise);
    const result = run.follow(() => 'paid');
    await atRest();
    expect([run.atWork, run.fulfilled]).toEqual([true, false]);
    open();
    expect(await result).toBe('paid');
    expect([run.atWork, run.fulfilled]).toEqual([false, true]);
  });
});
