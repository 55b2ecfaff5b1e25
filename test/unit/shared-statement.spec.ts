import { beforeEach, describe, expect, it } from '@jest/globals';
import { setImmediate as turn } from 'node:timers/promises';
import { StoreUnavailable } from '../../lib/contract/errors.js';
import { deadlineIn } from '../../lib/store/session.js';
import { SharedStatement } from '../../lib/store/shared-statement.js';
import { ManualClock } from '../support/manual-clock.js';

/** A statement that is under way until the test ends it. */
interface Sent {
  readonly asked: readonly string[];
  readonly leftMs: number;
  end(told: readonly (string | undefined)[]): Promise<void>;
  fail(error: Error): Promise<void>;
}

/** In the first one the answer is told, at the end of the second the next statement has left. */
const twoTurns = (): Promise<void> => turn().then(() => turn());

const REFUSED = new StoreUnavailable({ cause: Object.assign(new Error(), { severity: 'ERROR', code: '22021' }) });
const BROKEN = new StoreUnavailable({ cause: Object.assign(new Error(), { code: 'ECONNRESET' }) });

let clock: ManualClock;
let sent: Sent[];
let shared: SharedStatement<string, string>;

beforeEach(() => {
  clock = new ManualClock();
  sent = [];
  const send = (asked: readonly string[], leftMs: number): Promise<readonly (string | undefined)[]> =>
    new Promise((resolve, reject) => {
      sent.push({
        asked,
        leftMs,
        end: (told) => Promise.resolve(resolve(told)).then(twoTurns),
        fail: (error) => Promise.resolve(reject(error)).then(twoTurns),
      });
    });
  shared = new SharedStatement(clock, {
    alone: async (asked, deadline) => (await send([asked], deadline.leftMs()))[0],
    together: (asked, deadline) => send(asked, deadline.leftMs()),
  });
});

const ask = (asked: string, withinMs = 1000): Promise<string | undefined> => shared.run(asked, deadlineIn(clock, withinMs));
const failing = (asked: string, withinMs?: number): Promise<unknown> => ask(asked, withinMs).catch((error: unknown) => error);
const names = (): readonly (readonly string[])[] => sent.map(({ asked }) => asked);
const upper = (asked: readonly string[]): string[] => asked.map((text) => text.toUpperCase());

describe('a statement', () => {
  it('leaves with one request when no other one has come', async () => {
    const told = ask('a');
    expect(sent).toEqual([]);
    await turn();
    expect(names()).toEqual([['a']]);
    await sent[0]!.end(['A']);
    expect(await told).toBe('A');
  });

  it('leaves with all that came in one turn of the event loop, and tells each its own', async () => {
    const told = ['a', 'b', 'c'].map((asked) => ask(asked));
    await turn();
    expect(names()).toEqual([['a', 'b', 'c']]);
    await sent[0]!.end(['A', undefined, 'C']);
    expect(await Promise.all(told)).toEqual(['A', undefined, 'C']);
  });

  it('waits while one is under way, and leaves with all that have come meanwhile as soon as that is back', async () => {
    void ask('a');
    await turn();
    const told: Promise<string | undefined>[] = [];
    for (const asked of ['b', 'c', 'd']) {
      told.push(ask(asked));
      await turn();
    }
    expect(names()).toEqual([['a']]);
    await sent[0]!.end(['A']);
    expect(names()).toEqual([['a'], ['b', 'c', 'd']]);
    await sent[1]!.end(upper(['b', 'c', 'd']));
    expect(await Promise.all(told)).toEqual(['B', 'C', 'D']);
  });

  it('takes along what comes in the turn of the event loop in which the last one came back', async () => {
    void ask('a');
    await turn();
    void ask('b');
    const back = sent[0]!.end(['A']);
    process.nextTick(() => void ask('c')); // when all that follows from the answer at once has been done
    await back;
    expect(names()).toEqual([['a'], ['b', 'c']]);
  });

  it('does not wait for long for one that is stuck, and three at most are shared', async () => {
    for (const pair of ['ab', 'cd', 'ef', 'gh']) {
      for (const asked of pair) void failing(asked);
      await turn();
      await clock.advance(19);
      expect(names().flat().includes(pair[0]!)).toBe(pair === 'ab');
      await clock.advance(1);
    }
    expect(names()).toEqual([
      ['a', 'b'],
      ['c', 'd'],
      ['e', 'f'],
    ]);
    await sent[1]!.end(['C', 'D']);
    expect(names()).toEqual([
      ['a', 'b'],
      ['c', 'd'],
      ['e', 'f'],
      ['g', 'h'],
    ]);
  });

  it('does not wait for long for those that went alone and are stuck, however many they are', async () => {
    for (const asked of ['a', 'b', 'c', 'd', 'e']) {
      void failing(asked);
      await turn();
      await clock.advance(20);
    }
    expect(names()).toEqual([['a'], ['b'], ['c'], ['d'], ['e']]);
  });

  it('takes at most two hundred', async () => {
    const all = Array.from({ length: 450 }, (_, n) => String(n));
    const told = all.map((asked) => ask(asked));
    await turn();
    await sent[0]!.end(sent[0]!.asked);
    await sent[1]!.end(sent[1]!.asked);
    await sent[2]!.end(sent[2]!.asked);
    expect(names().map(({ length }) => length)).toEqual([200, 200, 50]);
    expect(await Promise.all(told)).toEqual(all);
  });

  it('has as long as the most patient of those who share it', async () => {
    void ask('a', 300);
    void ask('b', 700);
    await turn();
    expect(sent[0]!.leftMs).toBe(700);
  });
});

describe('when it fails', () => {
  it('because Postgres refuses it, each goes alone, and nobody waits for the one at fault', async () => {
    const [bad, good] = [failing('bad'), ask('good')];
    await turn();
    await sent[0]!.fail(REFUSED);
    expect(names()).toEqual([['bad', 'good'], ['bad'], ['good']]);
    await sent[2]!.end(['GOOD']);
    expect(await good).toBe('GOOD');

    const later = ['x', 'y'].map((asked) => ask(asked)); // while the bad one still stands before its lock
    await turn();
    expect(names()[3]).toEqual(['x', 'y']);
    await sent[3]!.end(['X', 'Y']);
    expect(await Promise.all(later)).toEqual(['X', 'Y']);
    await sent[1]!.fail(REFUSED);
    expect(await bad).toBe(REFUSED);
  });

  it('because the connection breaks, all who shared it hear so: nobody knows what has happened', async () => {
    const told = ['a', 'b'].map((asked) => failing(asked));
    await turn();
    await sent[0]!.fail(BROKEN);
    expect(await Promise.all(told)).toEqual([BROKEN, BROKEN]);
    expect(sent).toHaveLength(1);
  });

  it('the next one leaves all the same', async () => {
    const first = [failing('a'), failing('b')];
    await turn();
    await sent[0]!.fail(BROKEN);
    await Promise.all(first);
    const told = ask('c');
    await turn();
    await sent[1]!.end(['C']);
    expect(await told).toBe('C');
  });
});

describe('who gives up', () => {
  it('before there was room has sent nothing, and is not sent any more', async () => {
    void ask('a');
    await turn();
    const late = failing('late', 10);
    const told = ask('c');
    await clock.advance(10);
    expect(await late).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', unsent: true });
    await sent[0]!.end(['A']);
    expect(names()[1]).toEqual(['c']);
    await sent[1]!.end(['C']);
    expect(await told).toBe('C');
  });

  it('while the statement is under way may have been heard, and disturbs nobody', async () => {
    const [late, told] = [failing('late', 100), ask('b')];
    await turn();
    await clock.advance(100);
    expect(await late).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', unsent: false });
    await sent[0]!.end(['LATE', 'B']);
    expect(await told).toBe('B');
  });

  it('while the statement is under way is not sent again when Postgres refuses that', async () => {
    const [late, told] = [failing('late', 100), ask('b')];
    await turn();
    await clock.advance(100);
    await late;
    await sent[0]!.fail(REFUSED);
    expect(names()).toEqual([['late', 'b'], ['b']]);
    await sent[1]!.end(['B']);
    expect(await told).toBe('B');
  });

  it('does so at its own deadline, whoever came first', async () => {
    const late: string[] = [];
    const waits = (asked: string, withinMs: number): void => void ask(asked, withinMs).catch(() => late.push(asked));
    waits('a', 300);
    waits('b', 100);
    await turn();
    waits('c', 200);
    waits('d', 400);
    waits('e', 100);
    const seen: string[] = [];
    for (let n = 0; n < 4; n += 1) {
      await clock.advance(99);
      seen.push(late.join(''));
      await clock.advance(1);
    }
    expect([...seen, late.join('')]).toEqual(['', 'be', 'bec', 'beca', 'becad']);
    expect(clock.pending).toBe(0);
  });

  it('when it goes alone, after Postgres has refused those it shared with, does so at its deadline as well', async () => {
    const late = failing('late', 100);
    void failing('other', 50);
    await turn();
    await sent[0]!.fail(REFUSED);
    expect(names()).toEqual([['late', 'other'], ['late'], ['other']]);
    await clock.advance(100);
    expect(await late).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', unsent: false });
    expect(clock.pending).toBe(0);
  });

  it('does so whichever statement has come back meanwhile', async () => {
    const told = ask('a');
    await turn();
    const late = failing('late', 100);
    await clock.advance(50);
    expect(names()).toEqual([['a'], ['late']]);
    await sent[0]!.end(['A']);
    expect(await told).toBe('A');
    await clock.advance(50);
    expect(await late).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE', unsent: false });
  });

  it('leaves no timer behind when the answer has come', async () => {
    const told = [ask('a'), failing('b')];
    await turn();
    await sent[0]!.end(['A', 'B']);
    await Promise.all(told);
    expect(clock.pending).toBe(0);
  });
});
