/** Which methods `@Idempotent()` wraps, and whose options count for each. */
import { RequestMethod } from '@nestjs/common';
import { IDEMPOTENT, NEST, SKIPPED, idempotentMetadata } from './metadata.js';
import { wrapMethod } from './method-wrapper.js';
import { methodsOf } from './methods.js';
import type { IdempotentOptions } from './options.js';

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
    if (key !== undefined && descriptor !== undefined) decorateMethod(target, key, descriptor, options);
    else decorateClass(target as new (...args: never[]) => unknown, options);
  };
}

/** Exempts one handler of a class that is `@Idempotent()` as a whole, and from the warning of `warnUnprotected`. */
export function SkipIdempotency(): MethodDecorator {
  return (_target, _key, descriptor: PropertyDescriptor): void => {
    Reflect.defineMetadata(SKIPPED, true, descriptor.value as object);
  };
}

function decorateMethod(
  target: object,
  key: string | symbol,
  descriptor: PropertyDescriptor,
  options: IdempotentOptions | undefined,
): void {
  const earlier = idempotentMetadata(descriptor.value);
  wrapMethod(target, key, descriptor, {
    classOptions: earlier?.classOptions,
    handlerOptions: { ...earlier?.handlerOptions, ...options },
    explicit: true,
    deduplicate: earlier?.deduplicate,
  });
}

function decorateClass(controller: new (...args: never[]) => unknown, options: IdempotentOptions | undefined): void {
  Reflect.defineMetadata(IDEMPOTENT, true, controller);
  const prototype = controller.prototype as object;
  for (const [key, descriptor] of methodsOf(prototype)) {
    const method = descriptor.value as object;
    const decorated = idempotentMetadata(method);
    if (Reflect.hasMetadata(SKIPPED, method) || !(decorated?.explicit || isCovered(method))) continue;
    wrapMethod(prototype, key, descriptor, {
      classOptions: { ...decorated?.classOptions, ...options },
      handlerOptions: decorated?.handlerOptions,
      explicit: decorated?.explicit ?? false,
      deduplicate: decorated?.deduplicate,
    });
    // An inherited method becomes the class's own: the base class and its other heirs stay as they are.
    Object.defineProperty(prototype, key, descriptor);
  }
}

function isCovered(method: object): boolean {
  return COVERED_BY_CLASS.has(Reflect.getMetadata(NEST.method, method)) && !Reflect.hasMetadata(NEST.sse, method);
}
