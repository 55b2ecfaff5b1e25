/**
 * `@Idempotent()` wraps the method while it decorates it: that is the only moment before Nest binds
 * the route at which the handler itself, beneath pipes and interceptors, can be watched. The wrapper
 * knows nothing but its token; without a request on its way to it, it is the method.
 */
import { RequestMethod, UseInterceptors } from '@nestjs/common';
import { runFor } from './context.js';
import { IDEMPOTENT, NEST, SKIPPED, idempotentMetadata } from './metadata.js';
import type { IdempotentMetadata } from './metadata.js';
import { methodsOf } from './methods.js';
import type { IdempotentOptions } from './options.js';
import { partsGate } from './parts-gate.js';

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** What a class's `@Idempotent()` covers: RFC 9110, section 9.2 calls the others safe, and they need no key. */
const COVERED_BY_CLASS: ReadonlySet<unknown> = new Set([
  RequestMethod.POST,
  RequestMethod.PUT,
  RequestMethod.PATCH,
  RequestMethod.DELETE,
  RequestMethod.ALL,
]);

/**
 * Makes a handler safe to retry: the first request with a key runs it, every later one with that key
 * gets the first answer. On a controller it covers its own and inherited POST, PUT, PATCH, DELETE and
 * `@All` handlers; a handler's options merge over the class's.
 *
 * For a multipart upload, put it above `@UseInterceptors(FileInterceptor(…))`, so that the parts are
 * parsed when they are compared.
 */
export function Idempotent(options?: IdempotentOptions): ClassDecorator & MethodDecorator {
  return (target: object, key?: string | symbol, descriptor?: PropertyDescriptor): void => {
    if (key !== undefined && descriptor !== undefined) wrapMethod(target, key, descriptor, options);
    else wrapClass(target as new (...args: never[]) => unknown, options);
  };
}

/** Exempts one handler of a class that is `@Idempotent()` as a whole. */
export function SkipIdempotency(): MethodDecorator {
  return (_target, _key, descriptor: PropertyDescriptor): void => {
    Reflect.defineMetadata(SKIPPED, true, descriptor.value as object);
  };
}

function wrapMethod(target: object, key: string | symbol, descriptor: PropertyDescriptor, options: IdempotentOptions | undefined): void {
  const earlier = idempotentMetadata(descriptor.value);
  replace(target, key, descriptor, {
    classOptions: earlier?.classOptions,
    handlerOptions: { ...earlier?.handlerOptions, ...options },
    explicit: true,
  });
}

function wrapClass(controller: new (...args: never[]) => unknown, options: IdempotentOptions | undefined): void {
  Reflect.defineMetadata(IDEMPOTENT, true, controller);
  const prototype = controller.prototype as object;
  for (const [key, descriptor] of methodsOf(prototype)) {
    const method = descriptor.value as Method;
    const decorated = idempotentMetadata(method);
    if (Reflect.hasMetadata(SKIPPED, method) || !(decorated?.explicit || isCovered(method))) continue;
    replace(prototype, key, descriptor, {
      classOptions: { ...decorated?.classOptions, ...options },
      handlerOptions: decorated?.handlerOptions,
      explicit: decorated?.explicit ?? false,
    });
    // An inherited method becomes the class's own: the base class and its other heirs stay as they are.
    Object.defineProperty(prototype, key, descriptor);
  }
}

function isCovered(method: Method): boolean {
  return COVERED_BY_CLASS.has(Reflect.getMetadata(NEST.method, method)) && !Reflect.hasMetadata(NEST.sse, method);
}

function replace(
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
