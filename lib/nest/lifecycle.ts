/** What happens when the application starts and ends: look at the tables, reap, drain, close. */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap, OnApplicationShutdown } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { Clock } from '../contract/clock.js';
import { isIdempotencyError } from '../contract/errors.js';
import type { ConnectionLimit, IdempotencyStore, StoreFindings } from '../contract/store.js';
import type { Engine } from '../engine/engine.js';
import { Reaper } from '../engine/reaper.js';
import { demandContext } from './context.js';
import { mayBeAsked } from './context-demand.js';
import { IdempotencyEvents } from './events.js';
import { joinRepositories } from './join-repositories.js';
import { applicationPoolSize } from './module-store.js';
import type { ApplicationDatabase } from './module-store.js';
import { poolWarnings } from './pool-warnings.js';
import type { ResolvedOptions } from './resolve-options.js';
import type { IdempotentRoutes } from './routes.js';
import { APPLICATION, CLOCK, ENGINE, MODULE_INSTANCE, RESOLVED_OPTIONS, ROUTES, STORE } from './tokens.js';

@Injectable()
export class IdempotencyLifecycle implements OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown {
  readonly #logger = new Logger('Idempotency');
  readonly #reaper: Reaper | undefined;

  constructor(
    @Inject(STORE) private readonly store: IdempotencyStore,
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(ROUTES) private readonly routes: IdempotentRoutes,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(IdempotencyEvents) private readonly events: IdempotencyEvents,
    @Inject(APPLICATION) private readonly application: ApplicationDatabase,
    @Inject(MODULE_INSTANCE) private readonly instance: object,
    @Inject(ModulesContainer) private readonly modules: ModulesContainer,
    @Inject(CLOCK) clock: Clock,
  ) {
    if (options.reaper) {
      this.#reaper = new Reaper(store, options.reaper, clock, events, () =>
        this.#logger.warn('Expired records could not be removed; the next round tries again.'),
      );
    }
  }

  async onApplicationBootstrap(): Promise<void> {
    const findings = await this.#inspect();
    this.#warnOfPools(findings?.connectionLimit);
    this.#warnOfShortRetention();
    this.#warnOfUnprotected();
    if (this.routes.needContext || mayBeAsked(this.modules)) demandContext();
    if (this.options.joinRepositories) joinRepositories(this.modules, this.application, this.instance);
    this.#reaper?.start();
  }

  /** Nobody begins any more, and what runs may finish: connections and the application's own pool are still there. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.engine.drain(this.options.shutdownTimeoutMs);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#close();
  }

  /** Where the reaper stands: `elsewhere` when it does not run in this process. */
  get reaper(): 'alive' | 'stuck' | 'elsewhere' {
    if (this.#reaper === undefined) return 'elsewhere';
    return this.#reaper.alive ? 'alive' : 'stuck';
  }

  /** Looks at the tables with what this application's routes need of them. @throws as the store's `inspect` */
  inspect(): Promise<StoreFindings> {
    const maxLiveKeys = this.routes.all.some(({ settings }) => settings.maxLiveKeys !== undefined);
    return this.store.inspect({ maxLiveKeys });
  }

  /** A missing table is the start's fault, not the first request's. An unreachable Postgres is not: requests get 503 until it is back. */
  async #inspect(): Promise<StoreFindings | undefined> {
    try {
      const findings = await this.inspect();
      if (findings.synchronousCommit === 'off') {
        this.#logger.warn(
          'synchronous_commit is off in this database: an answer may leave before its record is on disk, and a crash of Postgres may forget it.',
        );
      }
      return findings;
    } catch (error) {
      if (!isIdempotencyError(error) || error.code !== 'IDEMPOTENCY_STORE_UNAVAILABLE') {
        await this.#close();
        throw error;
      }
      this.#logger.warn(
        'Postgres cannot be reached for idempotency records. Requests that carry a key are refused with 503 until it is back.',
      );
      return undefined;
    }
  }

  #warnOfShortRetention(): void {
    const short = this.routes.all.filter(({ settings }) => settings.forgetsWithinADay).map(({ settings }) => settings.handler);
    if (short.length === 0) return;
    this.#logger.warn(
      `A ttl under 24 hours is short for keys that clients make: a retry after that runs the handler again. Raise ttl at ${short.join(', ')}.`,
    );
  }

  #warnOfPools(limit: ConnectionLimit | undefined): void {
    const routes = this.routes.all.map(({ settings }) => settings);
    const pools = { applicationSize: applicationPoolSize(this.application), ownSize: this.options.poolSize };
    for (const warning of poolWarnings(pools, routes, limit)) this.#logger.warn(warning);
  }

  #warnOfUnprotected(): void {
    const { unprotected } = this.routes;
    if (!this.options.warnUnprotected || unprotected.length === 0) return;
    this.#logger.warn(
      `A retry of a POST or PATCH runs these handlers once more: ${unprotected.join(', ')}. ` +
        'Give them @Idempotent() or @Deduplicate(), or @SkipIdempotency() where that does no harm.',
    );
  }

  async #close(): Promise<void> {
    await Promise.all([this.#reaper?.stop(), this.engine.close()]);
    await this.store.close();
    this.events.close();
  }
}
