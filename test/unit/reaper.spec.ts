import { afterEach, describe, expect, it } from '@jest/globals';
import { Reaper } from '../../lib/engine/reaper.js';
import { atRest, ManualClock } from '../support/manual-clock.js';
import { EventLog, SECOND, fakeStore, gate, inTurn, outage } from './engine-fixture.js';

const MINUTE = 60 * SECOND;
const running: Reaper[] = [];
afterEach(() => Promise.all(running.splice(0).map((reaper) => reaper.stop())));

function aReaper(reap: () => Promise<number>, { batch = 100, random = (): number => 0 } = {}) {
  const clock = new ManualClock();
  const store = fakeStore({ reap });
  const log = new EventLog();
  const failures: unknown[] = [];
  const reaper = new Reaper(store, { everyMs: MINUTE, batch }, clock, log, (cause) => failures.push(cause), random);
  running.push(reaper);
  reaper.start();
  return { reaper, clock, store, log, failures };
}

describe('the reaper', () => {
  it('begins after its interval, not at the start, where every process of a deployment would do so at once', async () => {
    const { clock, store } = aReaper(async () => 0);
    await clock.advance(MINUTE - 1);
    expect(store.called('reap')).toHaveLength(0);
    await clock.advance(1);
    expect(store.called('reap')).toEqual([[100]]);
    await clock.advance(2 * MINUTE);
    expect(store.called('reap')).toHaveLength(3);
  });

  it('waits somewhat less than its interval, by chance, and never more', async () => {
    const { clock, store } = aReaper(async () => 0, { random: () => 1 });
    await clock.advance(0.8 * MINUTE);
    expect(store.called('reap')).toHaveLength(1);
  });

  it('goes on biting while the bites are full, with a pause after each in which others get their turn', async () => {
    const { clock, store, log } = aReaper(inTurn(100, 100, 7, 0));
    await clock.advance(MINUTE);
    expect(store.called('reap')).toHaveLength(1);
    await clock.advance(49);
    expect(store.called('reap')).toHaveLength(1);
    await clock.advance(1);
    expect(store.called('reap')).toHaveLength(2);
    await clock.advance(50);
    expect(store.called('reap')).toHaveLength(3);
    await clock.advance(SECOND);
    expect(store.called('reap')).toHaveLength(3);
    expect(log.events).toEqual([{ type: 'reaped', removed: 207, durationMs: 100 }]);
  });

  it('counts as alive while its rounds succeed, and no more when several in a row have not', async () => {
    const outages = Array.from({ length: 3 }, outage);
    const { reaper, clock } = aReaper(inTurn<number>(0, ...outages, 0));
    await clock.advance(4 * MINUTE);
    expect(reaper.alive).toBe(true); // the first round was three minutes ago
    await clock.advance(1);
    expect(reaper.alive).toBe(false);
    await clock.advance(MINUTE);
    expect(reaper.alive).toBe(true);
  });

  it('counts as alive while a long round goes on biting, and before it has begun', async () => {
    const { reaper, clock } = aReaper(async () => 100);
    expect(reaper.alive).toBe(true);
    await clock.advance(6 * MINUTE);
    expect(reaper.alive).toBe(true);
  });

  it('says nothing when there was nothing to remove', async () => {
    const { clock, log } = aReaper(async () => 0);
    await clock.advance(10 * MINUTE);
    expect(log.events).toHaveLength(0);
  });

  it('reports a failure, tells what it had removed until then, and tries again the next time', async () => {
    const failure = outage();
    const { clock, store, log, failures } = aReaper(inTurn<number>(100, failure, 3, 0));
    await clock.advance(MINUTE + SECOND);
    expect(failures).toEqual([failure]);
    expect(log.events).toMatchObject([{ removed: 100 }]);
    await clock.advance(MINUTE);
    expect(store.called('reap')).toHaveLength(3);
  });

  it('is not started twice', async () => {
    const { reaper, clock } = aReaper(async () => 0);
    reaper.start();
    await clock.advance(0);
    expect(clock.pending).toBe(1);
  });
});

describe('stop', () => {
  it('leaves no timer, and does not bite again', async () => {
    const { reaper, clock, store } = aReaper(async () => 100);
    await clock.advance(MINUTE);
    await reaper.stop();
    expect(clock.pending).toBe(0);
    const bites = store.called('reap').length;
    await clock.advance(10 * MINUTE);
    expect(store.called('reap')).toHaveLength(bites);
  });

  it('waits for the bite that is under way, whose failure then is nobody’s concern', async () => {
    const bite = gate<number>();
    const { reaper, clock, failures } = aReaper(() => bite.promise);
    await clock.advance(MINUTE);
    let stopped = false;
    const stopping = reaper.stop().then(() => (stopped = true));
    await atRest();
    expect(stopped).toBe(false);
    bite.fail(outage());
    await stopping;
    expect(failures).toHaveLength(0);
  });

  it('before the start is no trouble', async () => {
    const reaper = new Reaper(fakeStore(), { everyMs: MINUTE, batch: 1 }, new ManualClock(), new EventLog(), () => undefined);
    await reaper.stop();
  });
});
