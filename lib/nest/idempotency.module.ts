/**
 * Puts the parts together, once for each application. It is the one place, beside the lifecycle,
 * that knows which store the engine is given.
 */
import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import type { DynamicModule, Provider } from '@nestjs/common';
import { APP_INTERCEPTOR, ModulesContainer } from '@nestjs/core';
import { DataSource } from 'typeorm';
import { systemClock } from '../contract/clock.js';
import type { Clock } from '../contract/clock.js';
import type { IdempotencyStore } from '../contract/store.js';
import { Engine } from '../engine/engine.js';
import { refuseWithinStep } from './context.js';
import { IdempotencyEvents } from './events.js';
import { Faults } from './faults.js';
import { IdempotencyInterceptor } from './idempotency.interceptor.js';
import { IdempotencyService } from './idempotency.service.js';
import { IdempotencyLifecycle } from './lifecycle.js';
import type { IdempotencyModuleOptions, IdempotencyOptionsFactory } from './options.js';
import { resolveModuleOptions } from './resolve-options.js';
import type { ResolvedOptions } from './resolve-options.js';
import { findRoutes } from './routes.js';
import type { IdempotentRoutes } from './routes.js';
import { applicationDatabase, storeFor } from './module-store.js';
import type { ApplicationDatabase } from './module-store.js';
import { Runs } from './runs.js';
import { databaseIfAny, refuseAtomic } from './stand-in.js';
import type { StandIn } from './stand-in.js';
import {
  APPLICATION,
  CLOCK,
  ENGINE,
  LIFECYCLE,
  MODULE_INSTANCE,
  RESOLVED_OPTIONS,
  ROUTES,
  RUNS,
  STAND_IN,
  STORE,
  WRITTEN_OPTIONS,
} from './tokens.js';

const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<IdempotencyModuleOptions>({ optionsInjectionToken: WRITTEN_OPTIONS })
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createIdempotencyOptions' satisfies keyof IdempotencyOptionsFactory)
  .setExtras({ isGlobal: true }, (definition, { isGlobal }) => ({ ...definition, global: isGlobal }))
  .build();

/** Options and decorations are checked together, so that one start shows every fault there is. */
const BOOT = Symbol.for('nestjs-idempotency-pg.boot');

interface Boot {
  readonly options: ResolvedOptions;
  readonly routes: IdempotentRoutes;
  readonly application: ApplicationDatabase;
  readonly store: IdempotencyStore;
}

const providers: Provider[] = [
  { provide: MODULE_INSTANCE, useFactory: () => ({}) },
  { provide: STAND_IN, useFactory: () => undefined },
  { provide: CLOCK, inject: [{ token: STAND_IN, optional: true }], useFactory: (standIn?: StandIn) => standIn?.clock ?? systemClock },
  {
    provide: BOOT,
    inject: [WRITTEN_OPTIONS, ModulesContainer, { token: DataSource, optional: true }, { token: STAND_IN, optional: true }],
    useFactory: (written: IdempotencyModuleOptions, modules: ModulesContainer, dataSource?: DataSource, standIn?: StandIn): Boot => {
      const faults = new Faults();
      refuseSecond(modules, faults);
      const options = resolveModuleOptions(written, faults);
      const routes = findRoutes(modules, options, faults);
      if (standIn !== undefined) {
        refuseAtomic(routes, faults);
        faults.throwIfAny();
        return { options, routes, application: databaseIfAny(options, dataSource), store: standIn.store };
      }
      const application = applicationDatabase(options, dataSource, faults);
      refuseJoiningWithout(application, options, faults);
      faults.throwIfAny();
      if (application === undefined) throw new TypeError('There is no database.'); // said as a fault above
      return { options, routes, application, store: storeFor(application, options) };
    },
  },
  { provide: RESOLVED_OPTIONS, inject: [BOOT], useFactory: (boot: Boot) => boot.options },
  { provide: ROUTES, inject: [BOOT], useFactory: (boot: Boot) => boot.routes },
  { provide: APPLICATION, inject: [BOOT], useFactory: (boot: Boot) => boot.application },
  { provide: STORE, inject: [BOOT], useFactory: (boot: Boot) => boot.store },
  {
    provide: ENGINE,
    inject: [STORE, CLOCK, IdempotencyEvents, RESOLVED_OPTIONS],
    useFactory: (store: IdempotencyStore, clock: Clock, events: IdempotencyEvents, { maxWaiters }: ResolvedOptions) =>
      new Engine(store, clock, events, { maxWaiters, transactionGuard: refuseWithinStep }),
  },
  {
    provide: RUNS,
    inject: [ENGINE, STORE, RESOLVED_OPTIONS, MODULE_INSTANCE],
    useFactory: (engine: Engine, store: IdempotencyStore, options: ResolvedOptions, instance: object) =>
      new Runs(engine, store, options, instance),
  },
  IdempotencyEvents,
  IdempotencyService,
  IdempotencyLifecycle,
  { provide: LIFECYCLE, useExisting: IdempotencyLifecycle },
  { provide: APP_INTERCEPTOR, useClass: IdempotencyInterceptor },
];

function refuseJoiningWithout(application: ApplicationDatabase | undefined, options: ResolvedOptions, faults: Faults): void {
  if (!options.joinRepositories || application?.pool === undefined) return;
  faults.add({
    option: 'joinRepositories',
    fault: 'is given with a pg pool, which has no repositories',
    remedy: 'Give a TypeORM DataSource, or leave it out.',
  });
}

/** Two of them would both stand in every request's way. The token is the same in every copy of this library. */
function refuseSecond(modules: ModulesContainer, faults: Faults): void {
  const ours = [...modules.values()].filter(({ providers }) => providers.has(WRITTEN_OPTIONS));
  if (ours.length > 1) {
    faults.add({
      option: 'IdempotencyModule',
      fault: 'is imported more than once',
      remedy: 'Import it with forRoot() or forRootAsync() in the root module only; it is global.',
    });
  }
}

/**
 * Import it once, in the root module: `IdempotencyModule.forRoot()` in an application that has a
 * TypeORM `DataSource`, or with options. It registers one app-wide interceptor, which for handlers
 * without `@Idempotent()` or `@Deduplicate()` does no more than word what the recipes refuse there.
 */
@Module({ providers, exports: [IdempotencyService, IdempotencyEvents] })
export class IdempotencyModule extends ConfigurableModuleClass {
  /** `isGlobal` (default `true`): whether `IdempotencyService` and `IdempotencyEvents` can be injected everywhere. */
  static override forRoot(options: IdempotencyModuleOptions & { readonly isGlobal?: boolean } = {}): DynamicModule {
    return super.forRoot(options);
  }
}
