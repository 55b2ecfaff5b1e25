/** An application's process in little: an engine on a store of its own, with a clock that the test moves. */
import { DataSource } from 'typeorm';
import type { Clock } from '../../lib/contract/clock.js';
import type { ExecutionSettings } from '../../lib/contract/settings.js';
import type { IdempotencyStore } from '../../lib/contract/store.js';
import { Engine } from '../../lib/engine/engine.js';
import { createPostgresStore } from '../../lib/store/postgres-store.js';
import { ManualClock, atRest } from '../support/manual-clock.js';

/** The unit in which the model counts time: far longer than any run takes, so that no lease runs out by itself. */
export const UNIT_MS = 1_000_000;
/** Renewed after each unit by a process that is awake. */
export const LEASE_UNITS = 3;
export const RETENTION_UNITS = 4;

export type Mode = 'plain' | 'atomic';

export function settingsOf(mode: Mode, onLostExecution: ExecutionSettings['onLostExecution']): ExecutionSettings {
  return {
    retentionMs: RETENTION_UNITS * UNIT_MS,
    leaseMs: LEASE_UNITS * UNIT_MS,
    retryAfterMs: 1000,
    window: undefined,
    onLostExecution,
    durableClaim: mode === 'plain',
    atomic: mode === 'atomic' ? { isolation: undefined, retries: 0 } : undefined,
    waitMs: 0,
    storeTimeoutMs: 30_000,
    onStoreFailure: 'reject',
    maxBodyBytes: 1024,
    keeps: (status) => status < 500,
  };
}

export class Process {
  readonly store: IdempotencyStore;
  readonly engine: Engine;
  readonly #clock = new ManualClock();
  /** For how long it has stood still so far: its clock went on, and its timers come late. */
  #stoodStillMs = 0;
  readonly #underWay = new Set<Promise<unknown>>();

  private constructor(private readonly dataSource: DataSource) {
    const connection = { connectionString: (dataSource.options as { readonly url: string }).url };
    const parts = {
      connection,
      application: { dataSource },
      schema: 'public',
      poolSize: 4,
      preparedStatements: true,
      sharedStatements: true,
      storeTimeoutMs: 30_000,
    };
    this.store = this.#watched(createPostgresStore(parts));
    const settings = { maxWaiters: 10, transactionGuard: () => undefined };
    const clock: Clock = {
      now: () => this.#clock.now() + this.#stoodStillMs,
      after: (delayMs, task) => this.#clock.after(delayMs, task),
    };
    this.engine = new Engine(this.store, clock, { wants: () => false, emit: () => undefined }, settings);
  }

  static async start(url: string): Promise<Process> {
    return new Process(await new DataSource({ type: 'postgres', url, poolSize: 8 }).initialize());
  }

  /** Its own time goes on; what that sets going has come to its end afterwards. */
  async letPass(ms: number): Promise<void> {
    await this.#clock.advance(ms);
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    await atRest();
  }

  /** Time goes on, and it does nothing. */
  standStill(ms: number): void {
    this.#stoodStillMs += ms;
  }

  /** Whatever it has begun ends with its connections, and nothing of it is ever written again. */
  async die(): Promise<void> {
    await this.store.close();
    await this.dataSource.destroy();
  }

  #watched(store: IdempotencyStore): IdempotencyStore {
    return new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...sent: unknown[]) => {
          const call = Promise.resolve(member.apply(target, sent) as unknown);
          this.#underWay.add(call);
          call.finally(() => this.#underWay.delete(call)).catch(() => undefined);
          return call;
        };
      },
    });
  }
}
