/**
 * Whether the module can do its work: for a readiness probe, or an operator's page. It says what is
 * wrong and what to do, and names no key.
 */
import { Inject, Injectable } from '@nestjs/common';
import type { OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { HealthIndicatorService } from '@nestjs/terminus';
import type { HealthIndicatorResult } from '@nestjs/terminus';
import { isIdempotencyError } from '../contract/errors.js';
import type { IdempotencyError } from '../contract/errors.js';
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';
import { parseDuration } from '../nest/duration.js';
import type { IdempotencyLifecycle } from '../nest/lifecycle.js';
import type { Duration } from '../nest/options.js';
import { CLOCK, LIFECYCLE, STORE } from '../nest/tokens.js';
import { Lookout } from './lookout.js';
import type { LostRecords } from './lookout.js';
import { within } from './within.js';

export interface HealthOptions {
  /** The longest wait for Postgres. Default: `'3s'`. Keep it below the probe's own. */
  readonly timeout?: Duration;
  /**
   * How long ago the lease of the oldest lost record may have run out: of executions that were
   * interrupted, and that nobody has taken over or resolved since. Default: any time. To tell, the
   * table is read, at most once a minute.
   */
  readonly maxLostAge?: Duration;
}

const DEFAULT_TIMEOUT: Duration = '3s'; // with the way there and back within the probes that give up after five

/** For `HealthCheckService.check([() => idempotency.isHealthy()])` of `@nestjs/terminus`. */
@Injectable()
export class IdempotencyHealthIndicator implements OnModuleInit {
  #lifecycle!: IdempotencyLifecycle;
  #lookout!: Lookout;
  #clock!: Clock;

  /** It is made in whichever module lists it, and finds the parts of ours from there. */
  constructor(
    @Inject(HealthIndicatorService) private readonly results: HealthIndicatorService,
    @Inject(ModuleRef) private readonly modules: ModuleRef,
  ) {}

  onModuleInit(): void {
    try {
      this.#lifecycle = this.modules.get<IdempotencyLifecycle>(LIFECYCLE, { strict: false });
      this.#clock = this.modules.get<Clock>(CLOCK, { strict: false });
      this.#lookout = new Lookout(this.modules.get<IdempotencyStore>(STORE, { strict: false }), this.#clock);
    } catch (cause) {
      throw new Error('IdempotencyHealthIndicator needs IdempotencyModule in the application: import IdempotencyModule.forRoot().', {
        cause,
      });
    }
  }

  /**
   * `up` when Postgres answers in time, the migrations are current, the reaper succeeds where it runs in
   * this process, and no record is lost for longer than `maxLostAge`.
   *
   * @throws TypeError for an option that is no duration
   */
  async isHealthy<const Key extends string = 'idempotency'>(
    key: Key = 'idempotency' as Key,
    { timeout = DEFAULT_TIMEOUT, maxLostAge }: HealthOptions = {},
  ): Promise<HealthIndicatorResult<Key>> {
    const timeoutMs = msOf('timeout', timeout);
    const maxLostAgeMs = maxLostAge === undefined ? undefined : msOf('maxLostAge', maxLostAge);
    const check = this.results.check(key);
    const { reaper } = this.#lifecycle;
    try {
      const lost = await within(timeoutMs, this.#clock, this.#look(maxLostAgeMs !== undefined));
      const faults = [
        ...(reaper === 'stuck' ? [STUCK] : []),
        ...(lost !== undefined && maxLostAgeMs !== undefined && lost.oldestMs > maxLostAgeMs ? [LOST] : []),
      ];
      const details = { store: 'reachable', migrations: 'current', reaper, ...told(lost) };
      return faults.length === 0 ? check.up(details) : check.down({ ...details, message: faults.join(' ') });
    } catch (error) {
      if (!isIdempotencyError(error)) throw error;
      return check.down({ ...standing(error), reaper, message: wording(error) });
    }
  }

  async #look(forLost: boolean): Promise<LostRecords | undefined> {
    await this.#lifecycle.inspect();
    return forLost ? await this.#lookout.lost() : undefined;
  }
}

const UNREACHABLE =
  'Postgres cannot be reached for idempotency records, or does not answer in time. Requests that carry a key get 503 until it is back.';
const STUCK =
  'The reaper has not succeeded for several rounds, so expired records pile up. The log says when it fails; look into Postgres for what holds it up.';
const LOST =
  'An execution was interrupted too long ago, and nobody has taken its key over since. Look for lost records: "npx nestjs-idempotency-pg stats" counts them, and "resolve" settles one.';

function told(lost: LostRecords | undefined): Record<string, unknown> {
  if (lost === undefined) return {};
  return { lost: lost.count, ...(lost.count === 0 ? {} : { oldestLostSeconds: Math.round(lost.oldestMs / 1000) }) };
}

function standing({ code }: IdempotencyError): Record<string, unknown> {
  if (code === 'IDEMPOTENCY_SCHEMA_MISSING') return { store: 'reachable', migrations: 'missing' };
  if (code === 'IDEMPOTENCY_SCHEMA_OUTDATED') return { store: 'reachable', migrations: 'outdated' };
  return { store: 'unreachable', migrations: 'unknown' };
}

/** A store that can't be reached is another matter for an operator than for a client. */
function wording({ code, message }: IdempotencyError): string {
  return code === 'IDEMPOTENCY_STORE_UNAVAILABLE' ? UNREACHABLE : message;
}

function msOf(option: string, duration: Duration): number {
  const ms = parseDuration(duration);
  if (ms === undefined) throw new TypeError(`isHealthy: ${option} is no duration. Give milliseconds, or a text such as '3s' or '15m'.`);
  return ms;
}
