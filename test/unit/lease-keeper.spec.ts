import { describe, expect, it } from '@jest/globals';
import type { Lease } from '../../lib/contract/store.js';
import type { OwnedExecution } from '../../lib/engine/execution.js';
import { LeaseKeeper } from '../../lib/engine/lease-keeper.js';
import { ManualClock } from '../support/manual-clock.js';
import { SECOND, anExecution, fakeStore, gate, inTurn, outage } from './engine-fixture.js';

/** In no order: which is renewed first is nobody's business. */
const idsOf = (leases: readonly { readonly id: string }[]): string[] => leases.map(({ id }) => id).toSorted();

/** A keeper, what it renews at which second, and what it reports. */
function aKeeper(renew?: (leases: readonly Lease[], withinMs: number) => Promise<readonly string[]>) {
  const clock = new ManualClock();
  const store = fakeStore(renew && { renew });
  const lost: OwnedExecution[] = [];
  const failures: unknown[] = [];
  const keeper = new LeaseKeeper(
    store,
    clock,
    (execution) => lost.push(execution),
    (cause) => failures.push(cause),
  );
  const renewals = (): string[][] => store.called('renew').map(([leases]) => idsOf(leases));
  return { keeper, clock, store, lost, failures, renewals };
}

const idOf = (execution: OwnedExecution): string => execution.ownership.id;

/** As the engine does it for executions in plain mode. */
const keep = (keeper: LeaseKeeper, execution: OwnedExecution): void => keeper.keep(execution, execution.settings.leaseMs);

describe('a lease', () => {
  it('is renewed every third of it, under its owner’s token and for its full length', async () => {
    const { keeper, clock, store, renewals } = aKeeper();
    const execution = anExecution({ leaseMs: 60 * SECOND });
    keep(keeper, execution);
    await clock.advance(20 * SECOND - 1);
    expect(renewals()).toHaveLength(0);
    await clock.advance(1);
    expect(store.called('renew')[0]![0]).toEqual([{ id: idOf(execution), owner: execution.ownership.owner, leaseMs: 60 * SECOND }]);
    await clock.advance(40 * SECOND);
    expect(renewals()).toHaveLength(3);
  });

  it.each([
    [9, 5, 3],
    [60, 5, 5],
  ])(
    'of %d s waits for Postgres, which has %d s, no longer than %d s: another try is left then, and a shutdown waits no longer either',
    async (lease, patience, wait) => {
      const { keeper, clock, store } = aKeeper();
      keep(keeper, anExecution({ leaseMs: lease * SECOND, storeTimeoutMs: patience * SECOND }));
      await clock.advance((lease / 3) * SECOND);
      expect(store.called('renew')[0]![1]).toBe(wait * SECOND);
    },
  );

  it('is known to last from before its renewal was sent', async () => {
    const answer = gate();
    const { keeper, clock } = aKeeper(async (leases) => {
      await answer.promise;
      return leases.map(({ id }) => id);
    });
    const execution = anExecution({ leaseMs: 60 * SECOND });
    const [before, began] = [execution.leasedUntil, clock.now()];
    keep(keeper, execution);
    await clock.advance(25 * SECOND);
    expect(execution.leasedUntil).toBe(before);
    answer.open();
    await clock.advance(0);
    expect(execution.leasedUntil).toBe(began + (20 + 60) * SECOND);
  });

  it('is let alone once its execution is settled', async () => {
    const { keeper, clock, renewals } = aKeeper();
    const execution = anExecution();
    keep(keeper, execution);
    keeper.drop(execution);
    await clock.advance(600 * SECOND);
    expect(renewals()).toHaveLength(0);
    expect(clock.pending).toBe(0);
  });
});

describe('many leases', () => {
  it('are renewed in one statement', async () => {
    const { keeper, clock, renewals } = aKeeper();
    const executions = [anExecution(), anExecution(), anExecution()];
    for (const execution of executions) keep(keeper, execution);
    await clock.advance(20 * SECOND);
    expect(renewals()).toEqual([idsOf(executions.map(({ ownership }) => ownership))]);
  });

  it('that are due at nearly the same time come along with the first', async () => {
    const { keeper, clock, renewals } = aKeeper();
    const [early, late] = [anExecution(), anExecution()];
    keep(keeper, early);
    await clock.advance(5 * SECOND);
    keep(keeper, late);
    await clock.advance(15 * SECOND);
    expect(renewals()).toEqual([[idOf(early), idOf(late)].toSorted()]);
    await clock.advance(20 * SECOND);
    expect(renewals()).toHaveLength(2);
  });

  it('of several lengths each get theirs in time: a short one that comes later does not wait for a long one', async () => {
    const { keeper, clock, renewals } = aKeeper();
    const [long, short] = [anExecution({ leaseMs: 600 * SECOND }), anExecution({ leaseMs: 3 * SECOND })];
    keep(keeper, long);
    keep(keeper, short);
    await clock.advance(9 * SECOND);
    expect(renewals()).toEqual(Array.from({ length: 9 }, () => [idOf(short)]));
    await clock.advance(191 * SECOND);
    expect(renewals().filter((ids) => ids.includes(idOf(long)))).not.toHaveLength(0);
  });

  it('never wait for longer than a third of their own, however they are mixed', async () => {
    const renewedAt = new Map<string, number[]>();
    const clock = new ManualClock();
    const keeper = new LeaseKeeper(
      fakeStore({
        async renew(leases) {
          for (const { id } of leases) renewedAt.get(id)?.push(clock.now());
          return leases.map(({ id }) => id);
        },
      }),
      clock,
      () => undefined,
      () => undefined,
    );
    const executions = [4, 7, 60, 11, 100].map((seconds) => anExecution({ leaseMs: seconds * SECOND }));
    for (const execution of executions) {
      renewedAt.set(idOf(execution), [clock.now()]);
      keep(keeper, execution);
      await clock.advance(0.7 * SECOND);
    }
    await clock.advance(300 * SECOND);
    for (const execution of executions) {
      const times = renewedAt.get(idOf(execution)) ?? [];
      const waits = times.slice(1).map((at, i) => at - times[i]!);
      expect(waits.length).toBeGreaterThan(2);
      expect(Math.max(...waits)).toBeLessThanOrEqual(execution.settings.leaseMs / 3 + 1);
    }
    await keeper.stop();
  });
});

describe('a renewal that failed', () => {
  it('is tried again soon, since the lease is running out, and then at the usual pace', async () => {
    const { keeper, clock, failures, renewals, lost } = aKeeper(inTurn<readonly string[]>(outage(), outage(), []));
    const execution = anExecution({ leaseMs: 60 * SECOND });
    keep(keeper, execution);
    await clock.advance(20 * SECOND);
    await clock.advance(SECOND);
    expect(renewals()).toHaveLength(3);
    expect(failures).toHaveLength(2);
    expect(lost).toEqual([execution]); // the third found that somebody else has the key by now; the first two said nothing about that
  });

  it('of a short lease is tried again sooner than the lease would be due anyway', async () => {
    const { keeper, clock, renewals } = aKeeper(inTurn<readonly string[]>(outage()));
    keep(keeper, anExecution({ leaseMs: 0.6 * SECOND }));
    await clock.advance(0.2 * SECOND);
    await clock.advance(0.2 * SECOND);
    expect(renewals()).toHaveLength(2);
  });

  it('holds nobody up: a hanging one is not joined by a second, and what is due meanwhile is renewed after it', async () => {
    const answers = [gate<readonly string[]>(), gate<readonly string[]>()];
    let asked = 0;
    const { keeper, clock, renewals } = aKeeper(() => answers[asked++]!.promise);
    const [first, second] = [anExecution({ leaseMs: 3 * SECOND }), anExecution({ leaseMs: 60 * SECOND })];
    keep(keeper, first);
    await clock.advance(SECOND);
    keep(keeper, second);
    await clock.advance(30 * SECOND);
    expect(renewals()).toHaveLength(1);
    answers[0]!.open([idOf(first)]);
    await clock.advance(SECOND);
    expect(renewals()).toHaveLength(2);
    expect(renewals()[1]).toContain(idOf(second));
  });
});

describe('an execution whose lease somebody else has', () => {
  it('is reported, once, and not renewed any more; the others are', async () => {
    const [superseded, fine] = [anExecution(), anExecution()];
    const { keeper, clock, lost, renewals } = aKeeper(async () => [idOf(fine)]);
    keep(keeper, superseded);
    keep(keeper, fine);
    await clock.advance(60 * SECOND);
    expect(lost).toEqual([superseded]);
    expect(renewals()).toEqual([[idOf(superseded), idOf(fine)].toSorted(), [idOf(fine)], [idOf(fine)]]);
  });

  it('is not reported while it is being settled: its row is gone or completed because it said so itself', async () => {
    const { keeper, clock, lost } = aKeeper(async () => []);
    const execution = anExecution();
    keep(keeper, execution);
    execution.settling = true;
    await clock.advance(20 * SECOND);
    expect(lost).toHaveLength(0);
  });

  it('is not reported when it was settled while the renewal was on its way', async () => {
    const answer = gate<readonly string[]>();
    const { keeper, clock, lost } = aKeeper(() => answer.promise);
    const execution = anExecution();
    keep(keeper, execution);
    await clock.advance(20 * SECOND);
    keeper.drop(execution);
    answer.open([]);
    await clock.advance(0);
    expect(lost).toHaveLength(0);
  });
});

describe('stop', () => {
  it('leaves no timer, and ends when the statement that is under way has ended', async () => {
    const answer = gate<readonly string[]>();
    const { keeper, clock } = aKeeper(() => answer.promise);
    const execution = anExecution();
    keep(keeper, execution);
    await clock.advance(20 * SECOND);
    let stopped = false;
    const stopping = keeper.stop().then(() => (stopped = true));
    await clock.advance(0);
    expect(stopped).toBe(false);
    answer.open([idOf(execution)]);
    await stopping;
    expect(clock.pending).toBe(0);
    keep(keeper, anExecution());
    expect(clock.pending).toBe(0);
  });
});
