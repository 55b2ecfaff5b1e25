/**
 * Puts a wrapper in a method's place while it is being decorated: that is the only moment before Nest
 * binds the route at which the handler itself, beneath pipes and interceptors, can be watched. The
 * wrapper knows nothing but its token; without a request on its way to it, it is the method.
 */
import { UseInterceptors } from '@nestjs/common';
import { runFor } from './context.js';
import { IDEMPOTENT, NEST } from './metadata.js';
import type { IdempotentMetadata } from './metadata.js';
import { partsGate } from './parts-gate.js';

type Method = (this: unknown, ...args: unknown[]) => unknown;

export function wrapMethod(
  target: object,
  key: string | symbol,
  descriptor: PropertyDescriptor,
  settings: Omit<IdempotentMetadata, 'token' | 'behindInterceptors'>,
): void {
  const original = descriptor.value as Method;
  const token = {};
  const wrapper: Method = function (this: unknown, ...args) {
    const run = runFor(token);
    return run === undefined ? original.apply(this, args) : run.follow(() => original.apply(this, args));
  };
  dressAs(original, wrapper);
  const behindInterceptors = hasInterceptors(original);
  Reflect.defineMetadata(IDEMPOTENT, { ...settings, token, behindInterceptors } satisfies IdempotentMetadata, wrapper);
  descriptor.value = wrapper;
  if (behindInterceptors) UseInterceptors(partsGate)(target, key, descriptor);
}

function hasInterceptors(method: Method): boolean {
  const interceptors: unknown = Reflect.getMetadata(NEST.interceptors, method);
  return Array.isArray(interceptors) && interceptors.length > 0;
}

/** Name, length and all metadata of the method, so that Nest and every other reader take the wrapper for it. */
function dressAs(original: Method, wrapper: Method): void {
  Object.defineProperty(wrapper, 'name', { value: original.name, configurable: true });
  Object.defineProperty(wrapper, 'length', { value: original.length, configurable: true });
  for (const key of Reflect.getMetadataKeys(original) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getMetadata(key, original), wrapper);
  }
}
