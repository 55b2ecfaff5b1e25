/** Turns what `@Deduplicate()` was given into a route's settings: what is not its own is as the module has it. */
import { standsFor } from '../recipes/deduplicate.js';
import { acceptedDeduplicateOptions } from './accepted-options.js';
import type { Faults } from './faults.js';
import type { DeduplicateOptions, IdempotentOptions } from './options.js';
import { msOf, resolveRoute } from './resolve-options.js';
import type { ResolvedOptions, ResolvedRoute } from './resolve-options.js';

/**
 * What is for keys alone, whatever the module has. Nor is it atomic, since there would be nothing to
 * commit together: a window is over in a moment. And nobody would settle a lost one by hand in that time.
 */
const WITHOUT_KEYS = {
  required: false,
  atomic: false,
  onDuplicate: 'reject',
  onLostExecution: 'rerun',
} as const satisfies IdempotentOptions;

/** A handler as it was decorated. */
export interface WrittenDeduplication {
  readonly controller: string;
  readonly method: string;
  readonly options: DeduplicateOptions;
}

export function resolveDeduplication(
  module: ResolvedOptions,
  { controller, method, options }: WrittenDeduplication,
  faults: Faults,
): ResolvedRoute {
  const written = { controller, method, classOptions: undefined, handlerOptions: WITHOUT_KEYS, onStoreIfFailure: () => undefined };
  const route = resolveRoute(module, written, faults);
  const own = acceptedDeduplicateOptions(options, route.handler, faults);
  if (own.scope === undefined && route.scope === 'shared') refuseSharedByDefault(route.handler, faults);
  return Object.freeze({
    ...route,
    scope: own.scope === undefined ? route.scope : own.scope || 'shared',
    keyFrom: Object.freeze({ kind: 'none', label: 'the request' }),
    fingerprint: own.fingerprint,
    forgetsWithinADay: false,
    maxLiveKeys: undefined,
    retentionMs: msOf(own.window ?? 0), // without one there is a fault, and nothing starts
    window: Object.freeze({ answer: own.answer ?? 'reject' }),
    onStoreFailure: own.onStoreFailure ?? route.onStoreFailure,
    keeps: standsFor,
  });
}

/** Keys are seldom the same by chance, so callers may share a space of them. What they say is often the same. */
function refuseSharedByDefault(where: string, faults: Faults): void {
  faults.add({
    option: 'scope',
    where,
    fault: "is false for the whole module, which would make one caller's request the duplicate of another's who says the same",
    remedy: 'Give @Deduplicate() a scope of its own: a function of the request, or false if all callers count as one.',
  });
}
