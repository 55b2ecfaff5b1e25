/**
 * Keeps the leases of this process's running executions, all due ones in one statement. It only
 * renews: whether a lease is still good is for the database to say.
 */
import { ById } from '../contract/by-id.js';
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';
import type { OwnedExecution } from './execution.js';

/** Two renewals may fail before a lease ends: a lost packet or a short failover costs nobody a key. */
const RENEWALS_PER_LEASE = 3;

/** After a failed renewal the next try comes soon, since the lease is running out meanwhile. */
const RETRY_MS = 500;

interface Kept {
  readonly execution: OwnedExecution;
  readonly leaseMs: number;
  readonly intervalMs: number;
  dueAt: number;
}

export class LeaseKeeper {
  /** By the owner's token. */
  readonly #kept = new ById<Kept>();
  #cancelTimer: (() => void) | undefined;
  #timerAt = Infinity;
  #renewing: Promise<void> | undefined;
  #stopped = false;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly clock: Clock,
    private readonly onLost: (execution: OwnedExecution) => void,
    private readonly onFailure: (cause: unknown) => void,
  ) {}

  /** @param leaseMs what each renewal prolongs it to */
  keep(execution: OwnedExecution, leaseMs: number): void {
    const intervalMs = leaseMs / RENEWALS_PER_LEASE;
    const dueAt = this.clock.now() + intervalMs;
    this.#kept.set(execution.ownership.owner, { execution, leaseMs, intervalMs, dueAt });
    if (dueAt < this.#timerAt) this.#wakeAt(dueAt);
  }

  drop(execution: OwnedExecution): void {
    this.#kept.delete(execution.ownership.owner);
  }

  /** Ends all renewing; resolves when no statement is under way any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#kept.clear();
    await this.#renewing;
  }

  /** One timer serves all: it is only moved when a lease is due earlier than what it stands at. */
  #wakeAt(at: number): void {
    if (this.#stopped) return;
    this.#cancelTimer?.();
    this.#timerAt = at;
    this.#cancelTimer = this.clock.after(Math.max(0, at - this.clock.now()), () => {
      this.#timerAt = Infinity;
      this.#cancelTimer = undefined;
      this.#renewing ??= this.#renewDue().finally(() => {
        this.#renewing = undefined;
        this.#sleepUntilNextDue();
      });
    });
  }

  #sleepUntilNextDue(): void {
    let next = Infinity;
    for (const { dueAt } of this.#kept.all()) next = Math.min(next, dueAt);
    if (next < this.#timerAt) this.#wakeAt(next);
  }

  async #renewDue(): Promise<void> {
    const now = this.clock.now();
    // Those due within half an interval come along: fewer statements, and no lease suffers.
    const due = this.#kept.all().filter((kept) => kept.dueAt <= now + kept.intervalMs / 2);
    if (due.length === 0) return;
    const leases = due.map(({ execution, leaseMs }) => ({ ...idAndOwner(execution), leaseMs }));
    try {
      const renewed = new Set(await this.store.renew(leases, patienceFor(due)));
      for (const kept of due) {
        kept.dueAt = this.clock.now() + kept.intervalMs;
        if (renewed.has(kept.execution.identity.id)) kept.execution.leasedUntil = now + kept.leaseMs;
        else this.#lost(kept);
      }
    } catch (cause) {
      for (const kept of due) kept.dueAt = this.clock.now() + Math.min(RETRY_MS, kept.intervalMs);
      this.onFailure(cause);
    }
  }

  /** A row that was completed while the renewal was on its way is not lost: its own settlement knows better. */
  #lost(kept: Kept): void {
    if (kept.execution.settling || !this.#kept.delete(kept.execution.ownership.owner)) return;
    this.onLost(kept.execution);
  }
}

/** A late renewal must leave time for another one, and a Postgres that hangs must not hold up a shutdown. */
function patienceFor(due: readonly Kept[]): number {
  return Math.min(...due.map(({ execution, intervalMs }) => Math.min(intervalMs, execution.settings.storeTimeoutMs)));
}

function idAndOwner(execution: OwnedExecution): { readonly id: string; readonly owner: string } {
  return { id: execution.ownership.id, owner: execution.ownership.owner };
}
