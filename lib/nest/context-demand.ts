/**
 * Whether anything in an application may ask what it is part of, as far as that can be seen at boot: by
 * whom `IdempotencyService` is injected, or what can get at any provider at any time.
 */
import { LazyModuleLoader, ModuleRef, type ModulesContainer } from '@nestjs/core';
import { IdempotencyService } from './idempotency.service.js';
import { NEST } from './metadata.js';

type Module = ModulesContainer extends Map<string, infer M> ? M : never;
type Provider = Module['providers'] extends Map<unknown, infer P> ? P : never;

export function mayBeAsked(modules: ModulesContainer): boolean {
  return [...modules.values()].some((module) =>
    [module.controllers, module.providers, module.injectables, module.middlewares].some((providers) =>
      [...providers.values()].some((provider) => asks(provider, module)),
    ),
  );
}

function asks(provider: Provider, module: Module): boolean {
  const tokens = injected(provider);
  if (tokens.includes(IdempotencyService)) return true;
  // A module's own class sets things up, and serves no requests.
  return provider.metatype !== module.metatype && (tokens.includes(ModuleRef) || tokens.includes(LazyModuleLoader));
}

/** What Nest gives a provider, by a factory's list or by a class's own. */
function injected({ inject, metatype }: Provider): readonly unknown[] {
  if (inject) return inject.map((dependency) => tokenOf(dependency));
  if (typeof metatype !== 'function') return [];
  const read = (key: string): unknown[] => (Reflect.getMetadata(key, metatype) ?? []) as unknown[];
  const named = (key: string, token: string): unknown[] => read(key).map((dependency) => (dependency as Record<string, unknown>)[token]);
  return [...read(NEST.constructorTypes), ...named(NEST.constructorTokens, 'param'), ...named(NEST.propertyTokens, 'type')].map(tokenOf);
}

/** Some are wrapped: as optional ones of a factory, or as a reference that is resolved later. */
function tokenOf(dependency: unknown): unknown {
  if (typeof dependency !== 'object' || dependency === null) return dependency;
  if ('forwardRef' in dependency && typeof dependency.forwardRef === 'function') return (dependency.forwardRef as () => unknown)();
  return 'token' in dependency ? tokenOf(dependency.token) : dependency;
}
