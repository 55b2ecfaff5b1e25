/** The module for tests of applications without Postgres: records in memory, and a clock that a test may hold. */
import { Module } from '@nestjs/common';
import type { DynamicModule, FactoryProvider } from '@nestjs/common';
import { systemClock } from '../contract/clock.js';
import type { Clock } from '../contract/clock.js';
import { IdempotencyModule } from '../nest/idempotency.module.js';
import type { IdempotencyModuleOptions } from '../nest/options.js';
import type { StandIn } from '../nest/stand-in.js';
import { STAND_IN } from '../nest/tokens.js';
import { InMemoryIdempotencyStore } from './in-memory-store.js';

export interface IdempotencyTestingOptions {
  /** What ends leases, retention and waits. Default: the system's clock; give a `ManualClock` to move time by hand. */
  readonly clock?: Clock;
}

/** What `Test.createTestingModule({ … })` of `@nestjs/testing` returns, as far as it is used here. */
export interface ProviderOverriding<Builder> {
  overrideProvider(token: symbol): { useFactory(override: { readonly factory: () => StandIn }): Builder };
}

/**
 * In the place of `IdempotencyModule`: the same interceptor, service and events on an
 * `InMemoryIdempotencyStore`. Atomic handlers are refused at boot, since memory has no transactions.
 */
@Module({})
export class IdempotencyTestingModule extends IdempotencyModule {
  static override forRoot(
    options: IdempotencyModuleOptions & IdempotencyTestingOptions & { readonly isGlobal?: boolean } = {},
  ): DynamicModule {
    const { clock, ...written } = options;
    return inMemory(super.forRoot(written), clock);
  }

  static override forRootAsync({
    clock,
    ...options
  }: Parameters<typeof IdempotencyModule.forRootAsync>[0] & IdempotencyTestingOptions): DynamicModule {
    return inMemory(super.forRootAsync(options), clock);
  }

  /**
   * Puts the records of an application under test into memory, whatever it gives to its own
   * `IdempotencyModule.forRoot()`; its options stay.
   *
   * ```ts
   * const builder = Test.createTestingModule({ imports: [AppModule] });
   * const testing = await IdempotencyTestingModule.replaceIn(builder, { clock }).compile();
   * ```
   */
  static replaceIn<Builder>(builder: ProviderOverriding<Builder>, { clock }: IdempotencyTestingOptions = {}): Builder {
    return builder.overrideProvider(STAND_IN).useFactory({ factory: standInOn(clock) });
  }
}

function inMemory(definition: DynamicModule, clock: Clock | undefined): DynamicModule {
  const standIn: FactoryProvider<StandIn> = { provide: STAND_IN, useFactory: standInOn(clock) };
  return { ...definition, providers: [...(definition.providers ?? []), standIn] };
}

/** A store for each application that is made of the module. */
function standInOn(clock = systemClock): () => StandIn {
  return () => ({ clock, store: new InMemoryIdempotencyStore({ clock }) });
}
